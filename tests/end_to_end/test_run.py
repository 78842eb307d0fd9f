def test_run_then_again(mini, tmp_path):
    first = mini.run(tmp_path / "ws")
    assert first.returncode == 0, first.stderr
    again = mini.run(tmp_path / "ws")
    assert again.stdout == first.stdout
