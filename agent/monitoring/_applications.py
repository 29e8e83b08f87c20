"""The applications that were given to a `setup_*` or `create_*` function; each is measured from then on."""

import logging
import weakref
from typing import TYPE_CHECKING, Any

from monitoring._said import say_once

if TYPE_CHECKING:
    from monitoring._asgi import Application

_known: "weakref.WeakKeyDictionary[Any, Application]" = weakref.WeakKeyDictionary()


def adopt(app: Any) -> "Application | None":
    """Measure this application, once however often it is given. None, and a line in the log, where that cannot be done."""
    from monitoring._asgi import install

    try:
        application = _known.get(app)
        if application is None:
            application = _known[app] = install(app)
    except Exception as error:  # noqa: BLE001 - an application must be able to start
        say_once(
            logging.ERROR,
            "not an application that can be measured (FastAPI and Starlette are)",
            f"{app!r:.100} {error!r:.200}",
        )
        return None
    return application
