from ddad.wording import counted, on_one_line, percent, whole_percent


def test_counts_agree_with_their_noun() -> None:
    assert counted(1, "image") == "1 image"
    assert counted(0, "image") == "0 images"
    assert counted(2, "copy", "copies") == "2 copies"


def test_a_share_is_written_with_as_many_digits_as_it_needs() -> None:
    assert [percent(share) for share in (0, 0.05, 0.025, 1 / 3, 1)] == ["0 %", "5 %", "2.5 %", "33.3 %", "100 %"]
    assert percent(0.00456, digits=2) == "0.46 %"
    assert percent(0.996, digits=2) == "100 %"


def test_what_a_terminal_would_not_show_is_written_out() -> None:
    assert on_one_line("a\nb\r\x1b[1m é 图.png") == "a\\nb\\r\\x1b[1m é 图.png"


def test_an_estimate_is_written_in_whole_percent() -> None:
    assert [whole_percent(share) for share in (0.304, 0.999, 0.001)] == ["30 %", "100 %", "0 %"]
