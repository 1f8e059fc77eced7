"""`python3 -m testbed`: clears what killed runs have left behind."""

from testbed import sweep

if __name__ == "__main__":
    for stale_run in sweep.clean_stale_runs():
        print(f"cleared what run {stale_run} left")
