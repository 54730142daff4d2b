from reid.progress import Silent, Terminal


def test_terminal_shows_count_and_facts(capsys):
    progress = Terminal()
    with progress.bar("train", 3, "step") as bar:
        for _ in range(3):
            bar.advance(loss="0.5")
    progress.say("done")
    captured = capsys.readouterr()
    assert "train" in captured.err
    assert "3/3" in captured.err
    assert "loss=0.5" in captured.err
    assert "done" in captured.out


def test_silent_shows_nothing(capsys):
    with Silent().bar("train", None, "step") as bar:
        bar.advance(2, loss=1)
    Silent().say("done")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
