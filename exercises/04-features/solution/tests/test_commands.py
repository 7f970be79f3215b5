"""What the commands promise. Each test says which promise in its name."""

from __future__ import annotations

import json

import numpy as np
import pytest


def test_every_row_gets_one_answer_in_its_place(answers, rows, odd_rows):
    assert answers["row_id"].tolist() == [*rows["row_id"], *odd_rows["row_id"]]


def test_answers_are_probabilities_also_for_unseen_and_missing_values(answers):
    assert answers["probability"].between(0, 1).all()  # NaN is not between


def test_the_late_carrier_gets_the_higher_probability(answers, rows):
    """A model that learned anything tells these two apart; a constant, or answers in the wrong rows, do not."""
    probability = answers["probability"].to_numpy()[: len(rows)]
    late_carrier = rows["carrier"].eq("BB").to_numpy()
    assert probability[late_carrier].min() > probability[~late_carrier].max()


def test_a_row_gets_the_same_answer_in_another_order(commands, model, answers, rows):
    backwards = commands.predict(model, rows.iloc[::-1].reset_index(drop=True))
    before = answers.set_index("row_id")["probability"]
    assert np.allclose(backwards["probability"], before[backwards["row_id"]], rtol=0, atol=1e-9)


def test_training_twice_with_one_seed_gives_one_model(commands, answers, rows):
    assert commands.train("again").returncode == 0
    again = commands.predict("again", rows)
    assert np.allclose(again["probability"], answers["probability"][: len(rows)], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("key", "value"), [("seed", "seven"), ("train_end", "2013-02-30"), ("sede", 7)])
def test_a_wrong_configuration_is_refused_and_the_key_is_named(commands, key, value):
    refusal = commands.folder / "refusal.json"
    refusal.unlink(missing_ok=True)
    done = commands.train("never", **{key: value})
    assert done.returncode == 2
    assert json.loads(refusal.read_text())["key"] == key
    assert not (commands.folder / "never" / "model.json").exists()
