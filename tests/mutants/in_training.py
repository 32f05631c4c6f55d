"""Faults of a run as a whole. Those of the gang are seen through real Ray: a minute each."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, in_file

FAULTS = "integration/test_learner_faults.py::"

MUTANTS: list[Mutant] = [
    *in_file(
        "training/desk.py",
        "training/test_desk.py",
        ("lines are told twice", "            self._printed.clear()\n", ""),
        ("a row changes after it was written", "dict(metrics)", "metrics"),
        (
            "who waits hears of no line",
            "self._printed.append((error, text))\n            self._changed.notify_all()",
            "self._printed.append((error, text))",
        ),
        (
            "what was in a lost answer is lost",
            "            if heard == self._number:\n                self._told",
            "            if True:\n                self._told",
        ),
        ("what has arrived is told again", "if heard == self._number:", "if False:"),
        ("lines without end fill the memory", "deque(maxlen=KEPT_LINES)", "deque()"),
    ),
    *in_file(
        "training/signals.py",
        "training/test_signals.py",
        (
            "a second interrupt leaves what was started",
            "                    child.kill()",
            "                    pass",
        ),
        ("one interrupt is enough to be killed", "if interrupts >= 2:", "if interrupts >= 1:"),
    ),
    *in_file(
        "training/rank.py",
        "training/test_signals.py",
        ("a rank outlives its driver", "select.select([os.pidfd_open(driver)], [], [])", "time.sleep(1e6)"),
        ("a driver that is gone is an error", "suppress(ProcessLookupError)", "suppress(KeyError)"),
    ),
    *in_file(
        "training/rank.py",
        "integration/test_learner_faults.py::test_a_stop_of_all_processes_loses_nothing",
        ("a rank dies of a stop", '.name}"), *STOPS', '.name}")'),
    ),
    *in_file(
        "training/status.py",
        "training/test_status.py",
        (
            "it is written in place",
            "write_whole(self._path, json.dumps(document, indent=1), lasting=False)",
            "self._path.write_text(json.dumps(document, indent=1))",
        ),
        ("a new state waits", "if changed or time.monotonic()", "if time.monotonic()"),
        ("starving hides that a stop was asked", 'if why and self.state == "training":', "if why:"),
        ("a run that was killed seems to train", "age > STALE_S", "age > 1e9"),
        ("a full disk ends the run", "except (OSError, checkpoint.", "except (checkpoint."),
        ("a reader that has gone is a failure", "except BrokenPipeError:", "except KeyError:"),
    ),
    *in_file(
        "learner/records/metrics_file.py",
        "learner/records/test_sinks.py::test_rows_after_the_checkpoint_are_taken_back_and_come_again",
        (
            "rows of an abandoned course stay",
            '            self._unwritten = b""\n        _cut(self.path, global_step)',
            '            self._unwritten = b""',
        ),
    ),
    *in_file(
        "learner/publish.py",
        "learner/test_ray_publish.py::test_a_ray_that_takes_nothing_is_not_waited_for",
        ("a Ray that takes nothing holds the learner up", "self._sent.start()", "self._sent.run()"),
    ),
    *in_file(
        "training/gang.py",
        f"{FAULTS}test_a_learner_that_dies_of_a_stop_ends_well_if_it_had_saved",
        ("a stop that was saved is a failure", "(self._saved_all() or", "(False or"),
        ("a stop that was not saved ends well", "(self._saved_all() or", "(True or"),
    ),
    *in_file(
        "training/gang.py",
        f"{FAULTS}test_a_stop_that_finds_the_learner_dead_ends_as_a_restart_would",
        ("a death before a stop is the stop's", "or self._had_failed(fallen)", "or False"),
    ),
    *in_file(
        "actors/fleet/stops.py",
        f"{FAULTS}test_a_stop_while_ray_starts_is_one",
        ("Ray's handler counts", "signal.signal = keep", "pass"),
    ),
    *in_file(
        "training/gang.py",
        f"{FAULTS}test_a_killed_and_a_frozen_learner_go_on_from_the_newest_checkpoint",
        ("a checkpoint forgives nothing", "        if report.saves:\n            self._failures = 0\n", ""),
    ),
    *in_file(
        "training/gang.py",
        f"{FAULTS}test_an_error_and_a_hanging_loop_are_told_and_survived",
        ("the time limit begins anew with each life", " and self._stop.deadline is None:", ":"),
    ),
    *in_file(
        "training/meeting.py",
        "training/test_meeting.py",
        (
            "learners begin with other weights (ranks)",
            "if any(other != mine for other",
            "if any(False for other",
        ),
    ),
    *in_file(
        "training/placed.py",
        "training/test_hung.py",
        ("who waits for others is to blame (ranks)", "if not rank.blocked]", "]"),
        ("who is silent is not to blame (ranks)", "silent or [", "["),
    ),
    *in_file(
        "actors/fleet/fleet.py",
        "actors/fleet/test_inline_fleet.py",
        (
            "every learner has the first one's lives (ranks)",
            "first[part.number * config.num_actors :",
            "first[0 :",
        ),
        ("every learner has the first one's streams (ranks)", "part.number * config.num_streams", "0"),
    ),
]
