"""The sandbox against the service's OpenAPI document, judged by schemathesis."""

# schemathesis is annotated in part only.
# mypy: disable-error-code="untyped-decorator"
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownParameterType=false

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from PIL import Image
from schemathesis import CheckFunction, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import ignored_auth, missing_required_header, positive_data_acceptance

from phota_async.sandbox import Fault, Sandbox

DOCUMENT = Path(__file__).parent / "spec" / "enhance-v0.5.0.openapi.yaml"
PHOTOS = Path(__file__).parent / "photos"
KEY = "the-key"

bounded = settings(
    max_examples=120,
    database=None,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def small_photo(kind: str) -> str:
    file = io.BytesIO()
    with Image.open(PHOTOS / "rocket.jpg") as image:
        image.thumbnail((48, 48))
        image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def load(image: dict[str, Any], *modes: GenerationMode) -> Any:
    document = schemathesis.openapi.from_path(DOCUMENT).raw_schema
    document["components"]["schemas"]["EnhanceRequest"]["properties"]["image"] |= image
    project = ProjectConfig(generation=GenerationConfig(modes=list(modes)))
    config = SchemathesisConfig(projects=ProjectsConfig(default=project))
    return schemathesis.openapi.from_dict(document, config=config)


any_request = load({}, *GenerationMode)
photo_request = load({"enum": [small_photo(kind) for kind in ("JPEG", "PNG", "WEBP")]}, GenerationMode.POSITIVE)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(long_edge=32, keys={KEY}) as box:
        yield box


def origin(box: Sandbox) -> str:
    return box.url.removesuffix("/v1/phota")


def judge(case: "schemathesis.Case[Any]", box: Sandbox, *unasked: CheckFunction, key: str = KEY) -> int:
    # How calls without a key are judged differs between releases of schemathesis; it is tested elsewhere.
    response = case.call_and_validate(
        base_url=origin(box),
        headers={"X-API-Key": key},
        excluded_checks=[*unasked, ignored_auth, missing_required_header],
    )
    return response.status_code


@any_request.parametrize()
@bounded
def test_any_request_gets_an_answer_of_the_document(case: "schemathesis.Case[Any]", box: Sandbox) -> None:
    # That an image must be a photo is beyond the document: other strings are refused although they are valid.
    judge(case, box, positive_data_acceptance)


@photo_request.parametrize()
@bounded
def test_valid_requests_with_photos_are_accepted(case: "schemathesis.Case[Any]", box: Sandbox) -> None:
    assert judge(case, box) == 200


@pytest.mark.parametrize(
    ("status", "key", "options", "fault"),
    [
        (401, "another", {}, None),
        (402, KEY, {"credits": 0.0}, None),
        (404, KEY, {"profiles": {}}, None),
        (404, KEY, {"profiles": {"me": "IN_PROGRESS"}}, None),
        (400, KEY, {"moderated_words": ["smile"]}, None),
        (503, KEY, {"capacity": 0}, None),
        *((status, KEY, {}, Fault(status=status)) for status in (400, 401, 402, 404, 422, 500, 503)),
    ],
)
def test_refusals_have_the_shape_of_the_document(
    status: int, key: str, options: dict[str, Any], fault: Fault | None
) -> None:
    operation = photo_request["/v1/phota/enhance"]["POST"]
    body = {"image": small_photo("JPEG"), "profile_ids": ["me"], "prompt": "smile"}
    with Sandbox(long_edge=32, keys={KEY}, **options) as box:
        box.script(fault)
        case = operation.Case(body=body, media_type="application/json")
        answered = judge(case, box, positive_data_acceptance, not_a_server_error, key=key)
    assert answered == status
