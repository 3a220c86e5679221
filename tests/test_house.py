"""The floor plan, held: imports go down only, and each outside world has one door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import phota_async

PACKAGE = Path(phota_async.__file__).parent

# From the ground up: a room may import those that stand before it.
FLOORS = (
    *("version", "errors", "formats", "threads", "files", "models", "records", "naming", "width", "limiter", "retry"),
    *("images.photo", "images.paths", "images.walk", "images.streams", "images"),
    *(
        "journal.database",
        "journal.items",
        "journal.names",
        "journal.runs",
        "journal.walks",
        "journal.photos",
        "journal.views",
        "journal",
    ),
    *("codec", "codec.shapes", "codec.converter", "codec.scanner", "codec.growing", "codec.base64_stream"),
    *("codec.whole", "codec.answer", "codec.error_answer", "codec.request"),
    *("transport", "transport.border", "transport.attempts", "transport.addresses", "transport.proxies"),
    *(
        "transport.redaction",
        "transport.tracing",
        "transport.session",
        "transport.upload",
        "transport.inflate",
        "transport.post",
        "transport.download",
    ),
    *("settings", "batch", "telemetry", "call", "fetch", "homes"),
    *("folder.rules", "folder.budget", "folder.tally", "folder.brake", "folder.recorder", "folder.outputs"),
    *("folder.shortfalls", "folder.job", "folder.survey", "folder.purchase", "folder.run", "folder", "client"),
    *("report.words", "report.tally", "report.page", "report.cards", "report.shelf", "report.thumbnails"),
    *("report.writing", "report"),
    *("cli.progress", "cli.results", "cli.job", "cli.looking", "cli.commands", "cli"),
    *("ray.threads", "ray.store", "ray.records", "ray.rules", "ray.shelf", "ray.waiting", "ray.unwritten", "ray.buyer"),
    *("ray.purchase", "ray.desk", "ray.rows", "ray.loop", "ray.enhance", "ray"),
)

# Each outside world and the rooms that know it.
DOORS = {
    "aiohttp": ("transport", "sandbox"),
    "sqlite3": ("journal",),
    "tenacity": ("retry",),
    "cattrs": ("codec",),
    "pybase64": ("codec",),
    "click": ("cli",),
    "rich": ("cli",),
    "PIL": ("sandbox", "report"),
    "pillow_heif": ("sandbox", "report"),
    "opentelemetry": ("telemetry",),
    "obstore": ("ray",),
}

DISK_CALLS = {"open", "read_bytes", "write_bytes", "unlink", "mkdir", "exists", "is_file", "is_dir", "iterdir", "walk"}
# Of a folder run, one room looks at what is there; nothing of it writes.
DISK_ROOMS = ("files", "images", "journal", "folder.survey", "report", "sandbox", "ray.store")


def rooms() -> dict[str, ast.Module]:
    found: dict[str, ast.Module] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = ast.parse(path.read_text())
    return found


ROOMS = rooms()


def imported(tree: ast.AST) -> list[str]:
    """Every module that a room needs at run time, in full."""
    names: list[str] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names] if not node.level else []
        else:
            names += imported(node)
    return names


def ours(name: str) -> list[str]:
    """The rooms of ours that a room imports."""
    prefix = "phota_async."
    inside = [full.removeprefix(prefix) for full in imported(ROOMS[name]) if full.startswith(prefix)]
    return [full if full in ROOMS else full.rpartition(".")[0] for full in inside]


def test_every_room_has_its_floor() -> None:
    named = {*FLOORS, ""}
    assert {name for name in ROOMS if not name.startswith("sandbox")} == named


@pytest.mark.parametrize("name", FLOORS)
def test_imports_go_down(name: str) -> None:
    below = FLOORS[: FLOORS.index(name)]
    # The command line starts a sandbox when it is asked for one.
    allowed = {*below, "sandbox"} if name.startswith("cli.") else set(below)
    # Loaded when first needed, by the room that stands for it.
    allowed |= {"codec.converter"} if name == "codec.shapes" else set()
    assert set(ours(name)) <= allowed


def test_the_sandbox_is_an_island() -> None:
    for name, tree in ROOMS.items():
        if name.split(".")[0] == "sandbox":
            outside = [full for full in imported(tree) if full.startswith("phota_async.")]
            assert [full for full in outside if not full.startswith("phota_async.sandbox")] == []


@pytest.mark.parametrize("world", DOORS)
def test_each_outside_world_has_its_door(world: str) -> None:
    users = {
        name.split(".")[0] for name, tree in ROOMS.items() if world in {full.split(".")[0] for full in imported(tree)}
    }
    assert users <= set(DOORS[world])


def test_the_environment_is_read_in_the_client_only() -> None:
    readers = {
        name
        for name, tree in ROOMS.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "getproxies_environment"}
    }
    assert readers == {"client"}


def test_the_disk_is_touched_behind_its_doors_only() -> None:
    touching = {
        name
        for name, tree in ROOMS.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) != "Journal.open"
        if getattr(node.func, "attr", getattr(node.func, "id", None)) in DISK_CALLS
    }
    assert {name for name in touching if not f"{name}.".startswith(tuple(f"{room}." for room in DISK_ROOMS))} == set()


def test_the_public_names_are_these() -> None:
    assert set(phota_async.__all__) == {
        *("PhotaClient", "EnhanceResult", "EnhancedImage", "Outcome", "Outcomes", "BatchResult"),
        *("FolderReport", "FolderFailure", "FolderEvent", "FolderProgress", "Price"),
        *("RetryPolicy", "RetryDetails", "Timeout", "ValidationIssue", "__version__"),
        *("PhotaError", "ImageError", "ConnectionFailedError", "OutcomeUnknownError", "DeadlineExceededError"),
        *("JournalError", "OverloadedError", "DownloadError", "ResponseFormatError", "APIError", "BadRequestError"),
        *("InvalidRequestError", "ContentModerationError", "AuthenticationError", "InsufficientCreditsError"),
        *("NotFoundError", "ProfileNotFoundError", "ProfileNotReadyError", "UnprocessableError"),
        *("RateLimitedError", "ServerError", "InternalServerError", "ServiceUnavailableError", "GatewayError"),
    }
    assert all(hasattr(phota_async, name) for name in phota_async.__all__)
