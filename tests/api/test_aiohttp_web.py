import subprocess
import sys

SCRIPT = """
import sys
from novel_agent.serving.aiohttp_web import web
assert web.Application
assert "aiohttp.client" not in sys.modules
assert "aiohttp.connector" not in sys.modules
import aiohttp
from aiohttp import ClientSession, hdrs
assert aiohttp.ClientTimeout(total=1).total == 1
assert ClientSession is aiohttp.client.ClientSession
assert aiohttp.web is web
assert aiohttp.__version__.count(".") >= 2
try:
    aiohttp.no_such_name
except AttributeError:
    print("well")
"""


def test_the_server_comes_without_the_client_until_somebody_asks_for_it() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("well\n", "")


def test_a_package_that_was_loaded_before_is_used_as_it_is() -> None:
    script = "import aiohttp\nfrom novel_agent.serving.aiohttp_web import web\nassert web is aiohttp.web\nprint('well')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("well\n", "")
