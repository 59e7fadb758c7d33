"""An evaluated net, as evaluate.json has it."""

NET = {
    "run_id": "r",
    "model": "resnet20",
    "depth": 20,
    "residual": True,
    "params": 1,
    "lr": 0.1,
    "seed": 0,
    "steps": 700,
}
ERRORS = {"val_err1": 0.25, "test_err1": 0.2512, "test_err5": 0.01, "ci95": [0.24, 0.26]}
MEMBER = {**NET, **ERRORS}
