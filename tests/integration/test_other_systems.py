"""What Linux alone has is not needed: simulated by taking it away from the modules of Python that have it."""


def test_every_module_is_there_without_what_linux_alone_has(run, tmp_path):
    done = run("../tests/programs/without_linux.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 100
    assert (tmp_path / "a").read_bytes() == b"whole"
