"""The contents that are followed: by identity, which are to be read, which are open."""

from collections import deque

from novel_agent.inputs.logs.content import Content, Identity


class Files:
    """The files of one source that are there, or are still read though they are gone.

    `closing` are those that were rotated or removed and may have an end to deliver, `held` those that may turn out to be
    copies. `unsorted` is set when something came or went since whoever sorts by path cleared it.
    """

    def __init__(self, most_open: int) -> None:
        self.contents: dict[Content, None] = {}
        self.by_identity: dict[Identity, Content] = {}
        self.ready: deque[Content] = deque()
        self.closing: dict[Content, None] = {}
        self.held: dict[Content, None] = {}
        self.unsorted = True
        self._open: dict[Content, None] = {}
        self._most_open = most_open

    def __contains__(self, content: Content) -> bool:
        return content in self.contents

    def add(self, content: Content) -> None:
        """Follow a content; it may be open already."""
        self.contents[content] = None
        self.by_identity[content.identity] = content
        self.unsorted = True
        if content.source is not None:
            self._open[content] = None
            self.spare_handles()

    def drop(self, content: Content) -> None:
        """Follow a content no more, and close it."""
        self.contents.pop(content, None)
        self.unsorted = True
        if self.by_identity.get(content.identity) is content:
            del self.by_identity[content.identity]
        self.closing.pop(content, None)
        self.held.pop(content, None)
        self.shut(content)

    def queue(self, content: Content) -> None:
        """Let a content have a turn of reading."""
        if not content.queued:
            content.queued = True
            self.ready.append(content)

    def next(self) -> Content:
        """The content whose turn it is."""
        content = self.ready.popleft()
        content.queued = False
        return content

    def first_again(self, content: Content) -> None:
        """Let a content have the next turn."""
        content.queued = True
        self.ready.appendleft(content)

    def close_when_quiet(self, content: Content) -> None:
        """Look every second whether a rotated or removed file has come to its end."""
        self.closing[content] = None
        self.queue(content)

    def used(self, content: Content) -> None:
        """Note that a content was read from."""
        if content.source is not None:
            self._open.pop(content, None)
            self._open[content] = None

    def shut(self, content: Content) -> None:
        """Close a content's file; it is opened and verified again when it is read."""
        self._open.pop(content, None)
        content.close()

    def shut_idle(self, changed_before: float) -> None:
        """Close what is open and has not changed for long."""
        for content in [content for content in self._open if content.changed_at < changed_before]:
            if content not in self.closing:
                self.shut(content)

    def spare_handles(self) -> None:
        """Close those not read for longest, where too many are open."""
        if len(self._open) <= self._most_open:
            return
        for content in [content for content in self._open if content not in self.closing]:
            self.shut(content)
            if len(self._open) <= self._most_open:
                return
