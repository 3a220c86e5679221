"""What the library is compared with, in a virtual environment of its own: ``benchmarks/.peers``, made on first use.

It holds the packages of ``peers.txt``, what phota_async itself stands on, and the clients that are generated from the
OpenAPI document; all clients run in it, so that all of them run on the same aiohttp and the same pybase64.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import ROOT, progress, python

_PLACE = ROOT / "benchmarks" / ".peers"
_PINNED = ROOT / "benchmarks" / "peers.txt"
_DOCUMENT = ROOT / "tests" / "spec" / "enhance-v0.5.0.openapi.yaml"
_BIN = "Scripts" if sys.platform == "win32" else "bin"
_SITE = "import sysconfig; print(sysconfig.get_path('purelib'), end='')"
_MISSING = "missing.json"


class PeersError(Exception):
    """The peers cannot be installed; the message says why and what to do."""


def ready() -> tuple[Path, dict[str, str]]:
    """Return the interpreter that has all peers, and which clients it has not, with the reason.

    Raises:
        PeersError: They cannot be installed.
    """
    interpreter, made_of = _PLACE / _BIN / "python", _PLACE / "made-of"
    if not made_of.exists() or made_of.read_text(encoding="utf-8") != _fingerprint():
        progress(f"installing the peers into {_PLACE.relative_to(ROOT)}; once")
        shutil.rmtree(_PLACE, ignore_errors=True)
        try:
            venv.create(_PLACE, with_pip=True)
            python("-m", "pip", "install", "-q", "-r", str(_PINNED), "-e", str(ROOT), interpreter=interpreter)
            missing = _generated(interpreter)
        except (OSError, subprocess.SubprocessError) as error:
            raise PeersError(f"the peers were not installed ({error}); --no-peers does without them") from None
        (_PLACE / _MISSING).write_text(json.dumps(missing), encoding="utf-8")
        made_of.write_text(_fingerprint(), encoding="utf-8")
    return interpreter, json.loads((_PLACE / _MISSING).read_text(encoding="utf-8"))


def _fingerprint() -> str:
    made_of = (_PINNED, _DOCUMENT, ROOT / "pyproject.toml", Path(__file__))
    content = b"".join(path.read_bytes() for path in made_of) + platform.python_version().encode()
    return hashlib.sha256(content).hexdigest()


def _generated(interpreter: Path) -> dict[str, str]:
    """Generate the clients into the environment, and return what could not be generated, and why."""
    packages = Path(python("-c", _SITE, interpreter=interpreter))
    with TemporaryDirectory() as place:
        settings = Path(place, "settings.json")
        settings.write_text('{"post_hooks": []}', encoding="utf-8")  # they would format what nobody reads
        target = packages / "phota_attrs"
        asked: list[str | Path] = [
            "generate",
            "--path",
            _DOCUMENT,
            "--meta",
            "none",
            "--output-path",
            target,
            "--config",
            settings,
        ]
        _run(interpreter.parent / "openapi-python-client", *asked)
        if shutil.which("java") is None:
            return {"openapi_generator": "openapi-generator needs Java, which is not there"}
        asked = ["generate", "-i", _DOCUMENT, "-g", "python", "--library", "asyncio", "-o", place]
        _run(interpreter.parent / "openapi-generator-cli", *asked, "--package-name", "phota_pydantic")
        shutil.move(Path(place, "phota_pydantic"), packages / "phota_pydantic")
    return {}


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)  # noqa: S603  (what was just installed)


def without() -> tuple[Path, dict[str, str]]:
    """Return this interpreter, and which clients it has not."""
    needed = {
        "httpx": "httpx",
        "requests": "requests",
        "openai": "openai",
        "openapi_python_client": "phota_attrs",
        "openapi_generator": "phota_pydantic",
        "a web backend": "uvicorn",
    }
    return Path(sys.executable), {
        client: "left out by --no-peers" for client, package in needed.items() if find_spec(package) is None
    }


def versions(interpreter: Path) -> dict[str, str]:
    """Return what is installed there of what the results depend on."""
    named = ["phota-async", "aiohttp", "pybase64", "attrs", "cattrs", "tenacity", "anyio"]
    named += [line.partition("==")[0] for line in _PINNED.read_text(encoding="utf-8").splitlines() if "==" in line]
    code = (
        "import json, importlib.metadata as m; found = {d.name.lower().replace('_', '-'): d.version"
        f" for d in m.distributions()}}; print(json.dumps({{n: found[n] for n in {named} if n in found}}))"
    )
    told: dict[str, str] = json.loads(python("-c", code, interpreter=interpreter))
    return told
