"""Signature Version 4 against the published examples of its test suite."""

from datetime import datetime

import pytest

from slipway.wire.sigv4 import Credentials, sign

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOON = datetime(2015, 8, 30, 12, 36)  # noqa: DTZ001 (the moment of the examples, UTC)
HOST = {"host": "example.amazonaws.com"}

VECTORS = [
    pytest.param(
        "GET", "/", "", HOST, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", id="get-vanilla"
    ),
    pytest.param(
        "POST", "/", "", HOST, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", id="post-vanilla"
    ),
    pytest.param(
        "GET",
        "/",
        "Param2=value2&Param1=value1",
        HOST,
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        id="get-vanilla-query-order-key-case",
    ),
    pytest.param(
        "GET",
        "/",
        "",
        HOST | {"My-Header1": " value1", "My-Header2": ' "a   b   c"'},
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        id="get-header-value-trim",
    ),
]


@pytest.mark.parametrize(("method", "path", "query", "headers", "signature"), VECTORS)
def test_published_vectors(method, path, query, headers, signature):
    added = sign(
        method,
        path,
        query=query,
        headers=headers,
        body=b"",
        credentials=KEYS,
        region="us-east-1",
        service="service",
        now=NOON,
    )
    assert added["authorization"].endswith(f"Signature={signature}")
    assert added["x-amz-date"] == "20150830T123600Z"


def test_the_example_of_the_reference():
    added = sign(
        "GET",
        "/",
        query="Action=ListUsers&Version=2010-05-08",
        headers={"host": "iam.amazonaws.com", "content-type": "application/x-www-form-urlencoded; charset=utf-8"},
        body=b"",
        credentials=KEYS,
        region="us-east-1",
        service="iam",
        now=NOON,
    )
    assert added["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


def test_temporary_keys_sign_their_token():
    keys = KEYS._replace(session_token="token")
    added = sign(
        "POST", "/", headers=HOST, body=b"{}", credentials=keys, region="eu-west-1", service="bedrock", now=NOON
    )
    assert added["x-amz-security-token"] == "token"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in added["authorization"]
