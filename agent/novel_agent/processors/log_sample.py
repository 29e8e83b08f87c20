"""Keeps a share of the records, by severity: of one trace all or none, and nothing by chance.

The rule is that of traces (`processors.probability`), so where traces and records are sampled by the same share both keep the
same traces. What is kept says how much it stands for in the attributes that the OpenTelemetry Collector's
probabilisticsampler writes: `sampling.threshold`, and `sampling.randomness` where no trace id gives it.
"""

from hashlib import blake2b

from novel_agent.config.schema import LogSample
from novel_agent.model.log import LogRecord
from novel_agent.model.value import Attributes
from novel_agent.processors.log_fields import SEVERITIES, UID, severity_name, text_of
from novel_agent.processors.probability import BITS, randomness, threshold, written

THRESHOLD, RANDOMNESS = "sampling.threshold", "sampling.randomness"


class Sample:
    """Drops what has a randomness below the threshold of its severity; a record without a severity is kept.

    The randomness is that of the trace id, or else a hash of `log.record.uid`, so a record that is read twice is judged alike
    twice; of a record without either, a hash of its time and body.
    """

    reason = "sample"

    def __init__(self, config: LogSample) -> None:
        thresholds = {severity: threshold(getattr(config, severity)) for severity in SEVERITIES}
        self._thresholds = {
            number: thresholds[name] for number in range(1, 25) if (name := severity_name(number)) is not None
        }

    def __call__(self, records: list[LogRecord], now: float) -> list[LogRecord]:
        """Those that go on."""
        return [record for record in records if self._keeps(record)]

    def _keeps(self, record: LogRecord) -> bool:
        rejected = self._thresholds.get(record.severity_number, 0)
        if not rejected:
            return True
        traced = randomness(record.trace_id)
        chance = _hashed(record) if traced is None else traced
        if chance < rejected:
            return False
        _mark(record, rejected, None if traced is not None else chance)
        return True


def _hashed(record: LogRecord) -> int:
    uid = record.attributes.get(UID)
    text = uid if isinstance(uid, str) and uid else f"{record.time_unix_nano} {text_of(record.body)}"
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=BITS // 8).digest(), "big")


def _mark(record: LogRecord, rejected: int, chance: int | None) -> None:
    """Of two steps the higher threshold stays."""
    threshold_text = written(rejected)
    before = record.attributes.get(THRESHOLD)
    if isinstance(before, str) and before.ljust(14, "0") > threshold_text.ljust(14, "0"):
        return
    marks: Attributes = {THRESHOLD: threshold_text}
    if chance is not None:
        marks[RANDOMNESS] = f"{chance:014x}"
    record.attributes = record.attributes | marks
