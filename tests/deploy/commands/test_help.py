"""Help of a command with many options."""

from commands import caflow


def test_help_is_short_and_begins_with_what_people_need_first() -> None:
    short, whole = (caflow("image", option, code=0).stdout for option in ("--help", "--help-all"))
    assert len(short.splitlines()) <= 150
    first, _, more = short.partition("More options:")
    for option in ("--output", "--model", "-n ", "--scale", "--mask", "--dry-run"):
        assert option in first.partition("Options:")[2]
    assert "--temperature" in more
    assert "Criterion for the best sample. likelihood: the most likely sample" in " ".join(whole.split())
    assert "likelihood: the most likely sample" not in " ".join(short.split())
