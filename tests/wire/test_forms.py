"""Forms, read in place: whatever they hold, only the values that are replaced change."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway.domain.errors import RequestInvalid
from slipway.wire.forms import Form

TYPE = b"multipart/form-data; boundary=b"
VALUES = st.binary(max_size=60).filter(lambda value: b"--b" not in value)


def part(name: str, value: bytes, *, filename: str | None = None) -> bytes:
    more = "" if filename is None else f'; filename="{filename}"'
    return b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name.encode(), more.encode(), value)


@given(VALUES, st.text(max_size=20).filter(lambda text: "--b" not in text))
@example(b"\r\n", "")
@example(b"\r\n--", "\r")
@example(b"", "\r\n\r\n")
def test_all_but_one_value_stays_as_it_came(file, text):
    before = part("file", file, filename="a;b.mp3")
    body = before + part("model", text.encode()) + part("x", b"y") + b"--b--\r\n"
    form = Form(body, TYPE)
    assert form.with_values({"model": "ok"}) == before + part("model", b"ok") + part("x", b"y") + b"--b--\r\n"
    assert form.with_values({}) == body
    assert msgspec.json.decode(form.fields()["model"]) == text
    (found,) = form.files
    assert body[found.start : found.end] == file


@given(
    st.binary(max_size=200), st.sampled_from([b"--b\r\n", b"--b--", b'--b\r\ncontent-disposition: form-data; name="a"'])
)
def test_anything_else_is_refused_and_nothing_breaks(rest, begin):
    with suppress(RequestInvalid):
        Form(begin + rest, TYPE).fields()


HEADS = {
    "read differently by everyone": b'form-data; name="pro\\mpt"',
    "named twice": b'form-data; name="a"; name="prompt"',
    "no name that can be read": b"form-data; name*=utf-8''prompt",
}


@pytest.mark.parametrize(("reason", "head"), HEADS.items(), ids=HEADS)
def test_names_that_others_might_read_as_another_are_refused(reason, head):
    body = b"--b\r\ncontent-disposition: %b\r\n\r\nx\r\n--b--" % head
    with pytest.raises(RequestInvalid, match=reason):
        Form(body, TYPE)


def test_a_field_comes_once_unless_it_is_a_list():
    twice = part("a[]", b"1") + part("a[]", b"2") + b"--b--"
    assert msgspec.json.decode(Form(twice, TYPE).fields()["a[]"]) == "2"
    with pytest.raises(RequestInvalid, match="twice"):
        Form(part("a", b"1") + part("a", b"2") + b"--b--", TYPE).fields()
    with pytest.raises(RequestInvalid, match="as a text and as a file"):
        Form(part("a", b"1") + part("a", b"2", filename="a") + b"--b--", TYPE).fields()
    with pytest.raises(RequestInvalid, match="more than 256 parts"):
        Form(part("a[]", b"1") * 257 + b"--b--", TYPE)
