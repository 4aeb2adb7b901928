"""YAML text to values with positions: whatever the bytes, documents or one refusal with file and line."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import BadInput
from planner.yaml_text import MAX_BYTES, MAX_NODES, Plain, dump, parse, read


def values(text: str) -> list[Plain]:
    return [document.root.plain() for document in parse(text.encode(), "a.yaml")]


def refusal(data: bytes) -> str:
    with pytest.raises(BadInput) as refused:
        parse(data, "a.yaml")
    return str(refused.value)


def test_scalars_follow_yaml_1_2_so_that_no_is_a_word() -> None:
    text = "[1, -2, 0x1F, 0o17, 1.5, 1e3, .5, true, null, ~, no, on, 1:30, 2023-01-01, '7', \"true\"]"
    assert values(text) == [
        [1, -2, 31, 15, 1.5, 1000.0, 0.5, True, None, None, "no", "on", "1:30", "2023-01-01", "7", "true"]
    ]


def test_infinities_and_nan_are_read_as_such_for_the_shapes_to_refuse() -> None:
    assert repr(values("[.inf, -.INF, .nan]")) == "[[inf, -inf, nan]]"


def test_a_file_may_hold_several_documents_and_empty_ones_count_for_nothing() -> None:
    assert values("a: 1\n---\n---\n# only a comment\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


def test_every_path_has_the_line_of_its_key() -> None:
    document = parse(b"spec:\n  slo:\n  - name: a\n    ttft:\n      5s\n  'a/b': 1\n", "chat.yaml")[0]
    assert document.where(()) == "chat.yaml:1"
    assert document.where(("spec", "slo", 0, "ttft")) == "chat.yaml:4: spec.slo[0].ttft"
    assert document.where(("spec", "a/b")) == "chat.yaml:6: spec['a/b']"


def test_a_path_that_is_absent_has_the_line_of_what_should_hold_it() -> None:
    document = parse(b"kind: a\nspec:\n  model: b\n", "chat.yaml")[0]
    assert document.where(("spec", "slo", 0, "ttft")) == "chat.yaml:2: spec.slo[0].ttft"


def test_one_mapping_stands_for_a_list_of_one_when_lines_are_looked_up() -> None:
    document = parse(b"slo:\n  ttft: 5\n", "chat.yaml")[0]
    assert document.where(("slo", 0, "ttft")) == "chat.yaml:2: slo[0].ttft"


def test_an_alias_repeats_its_anchor_and_has_the_line_of_its_own_key() -> None:
    document = parse(b"a: &x {c: 1}\nb: *x\n", "a.yaml")[0]
    assert document.root.plain() == {"a": {"c": 1}, "b": {"c": 1}}
    assert document.where(("b",)) == "a.yaml:2: b"


def test_anchors_end_with_their_document() -> None:
    assert "a.yaml:3: got the alias 'x'" in refusal(b"a: &x 1\n---\nb: *x\n")


def test_aliases_that_grow_into_a_bomb_are_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert f"allowed: {MAX_NODES} in a file" in refusal("\n".join(lines).encode())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.yaml: got no document, allowed: at least one YAML document"),
        (b"# nothing\n", "a.yaml: got no document"),
        (b"\xff\xfe\x00", "a.yaml:1: got bytes that are no UTF-8 text"),
        (b"a: 1\nb: \xff", "a.yaml:2: got bytes that are no UTF-8 text"),
        (b"a: \x00", "a.yaml:1: got text that is no YAML (unacceptable character #x0000"),
        ("é: é\n---\nb: 1\nc: \x1b".encode(), "a.yaml:4: got text that is no YAML (unacceptable character #x001b"),
        (b"a: 1\nb: c: d", "a.yaml:2: got text that is no YAML (mapping values are not allowed"),
        (b"a: 1\n\tb: 1", "a.yaml:2: got text that is no YAML"),
        (b"a: 1\nb: 2\na: 3", "a.yaml:3: got the key 'a' again (first in line 1), allowed: each key once"),
        (b"a: !!python/object:os.system x", "a.yaml:1: got the tag 'tag:yaml.org,2002:python/object:os.system'"),
        (b"a: {<<: {b: 1}}", "a.yaml:1: got the merge key <<"),
        (b"? [a]\n: 1", "a.yaml:1: got a key that is no word"),
        (b"&a [*a]", "a.yaml:1: got the alias 'a', allowed: aliases of an anchor above"),
        (b"[" * 100_000, "a.yaml:1: got deeper nesting, allowed: 64 levels"),
        (b"- " * 100_000, "a.yaml:1: got deeper nesting"),
        (b"a: " + b"9" * 5000, "a.yaml:1: got the number '999"),
        (b"[" + b"1," * (MAX_NODES + 1) + b"]", f"allowed: {MAX_NODES} in a file"),
        (b"#" * (MAX_BYTES + 1), "a.yaml: got more than 4 MiB"),
    ],
    ids=range(18),
)
def test_what_is_not_plain_data_is_refused_with_its_place(data: bytes, message: str) -> None:
    assert message in refusal(data)


@pytest.mark.parametrize("name", ["absent.yaml", ".", "a\0b.yaml"])
def test_a_file_that_cannot_be_read_is_refused_with_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"cannot be read .*allowed: a readable YAML file"):
        read(tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(tmp_path / "a.yaml")[0].root.plain() == {"a": 1}


_SCALARS = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats() | st.text(max_size=8)
_LOOK_ALIKES = st.sampled_from(["1e3", "0o17", "0x1F", ".5", "5.", "no", "null", "~", "<<", "=", "1:30", ".inf", "- a"])


def _nested(inner: st.SearchStrategy[Plain]) -> st.SearchStrategy[Plain]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)


@given(
    st.dictionaries(
        st.text(max_size=5) | _LOOK_ALIKES,
        st.recursive(_SCALARS | _LOOK_ALIKES, _nested, max_leaves=8),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_dumped_reads_back_as_the_same_value(value: dict[str, Plain]) -> None:
    assert repr(parse(dump(value).encode(), "a.yaml")[0].root.plain()) == repr(value)


def test_a_value_that_stands_twice_is_written_twice() -> None:
    twice: list[Plain] = ["a"]
    assert dump({"x": twice, "y": twice}) == "x:\n- a\ny:\n- a\n"


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text(alphabet="ab01:-[]{},&*!|>'\"#%@`?\n \t.~\\u", max_size=80).map(str.encode))
def test_any_bytes_give_documents_or_one_line_of_refusal(data: bytes) -> None:
    refusal: BadInput | None = None
    try:
        documents = parse(data, "a.yaml")
    except BadInput as refused:
        refusal, documents = refused, ()
    assert all(document.root.plain() is not None for document in documents)
    assert bool(documents) != bool(refusal)
    if refusal:
        assert str(refusal).startswith("a.yaml")
        assert "allowed: " in str(refusal)
        assert "\n" not in str(refusal)
