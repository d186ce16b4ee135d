"""The closed loop in eight ordered steps (``pytest --mlgates-loop --model-name NAME``); a failed one skips the rest."""


def test_1_drift_is_injected(closed_loop):
    closed_loop.step(1, closed_loop.inject)


def test_2_the_alert_fires(closed_loop):
    closed_loop.step(2, closed_loop.fires)


def test_3_the_receiver_gets_it(closed_loop):
    closed_loop.step(3, closed_loop.received)


def test_4_the_retrain_pipeline_runs(closed_loop):
    closed_loop.step(4, closed_loop.pipeline_ran)


def test_5_a_new_version_is_registered(closed_loop):
    closed_loop.step(5, closed_loop.registered)


def test_6_the_audit_names_the_reason(closed_loop):
    closed_loop.step(6, closed_loop.audited)


def test_7_teams_gets_the_summary(closed_loop):
    closed_loop.step(7, closed_loop.told)


def test_8_drift_on_the_fresh_challenger_is_low(closed_loop):
    closed_loop.step(8, closed_loop.quiet)
