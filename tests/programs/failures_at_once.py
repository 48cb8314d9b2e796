"""A pytest plugin (`-p failures_at_once`) that prints failures as they come: a run that is cut short has told them."""

LINES = 25


def pytest_runtest_logreport(report):
    if report.failed:
        text = "\n".join(report.longreprtext.splitlines()[-LINES:])
        print(f"\nFAILED {report.nodeid} ({report.when}, {report.duration:.0f} s)\n{text}", flush=True)
