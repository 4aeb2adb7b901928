"""The reason that is shown for a GPU type is the one that tells most."""

from planner.plan import Recipe, Refusal
from planner.refusals import beaten, distinct, telling, too_large, too_slow, too_slow_together
from planner.service import Bucket

SLOW = too_slow("TTFT", 1.3, 1.0, Bucket("chat", 2048, 256))
LARGE = too_large("llama-70b", Recipe("L4"), 141e9, 2e9, 21.6e9)
OBJECTION = "L4 has no fp8 peak in the catalogue"


def refused(*rows: tuple[str, str]) -> list[Refusal]:
    return [Refusal("chat", recipe, reason) for recipe, reason in rows]


def test_the_words_say_what_is_needed_and_what_there_is() -> None:
    assert SLOW == "TTFT is 1.3 s at best (2048 in, 256 out), the objective is 1 s"
    assert LARGE == "llama-70b needs 141.0 GB of weights, 1xL4 holds 21.6 GB"
    tight = too_large("llama-8b", Recipe("L4", tp=2), 16e9, 30e9, 43.2e9)
    beside = "16.0 GB of weights leave no room for 30.0 GB of KV cache, activations and workspace"
    assert tight == f"{beside}: 2xL4 holds 43.2 GB"


def test_a_missed_objective_of_the_largest_recipe_tells_most() -> None:
    rows = refused(("L4", LARGE), ("L4 fp8", OBJECTION), ("4xL4 tp4", SLOW.replace("1.3", "2.1")), ("8xL4 tp8", SLOW))
    assert telling(rows, "L4") == f"8xL4 tp8: {SLOW}"


def test_of_recipes_of_one_size_the_plainest_is_named() -> None:
    rows = refused(("8xL4 tp8", SLOW), ("8xL4 tp8 fp8", SLOW.replace("1.3", "1.2")))
    assert telling(rows, "L4") == f"8xL4 tp8: {SLOW}"


def test_memory_tells_more_than_an_objection() -> None:
    rows = refused(
        ("L4 fp8", OBJECTION), ("L4", LARGE), ("2xL4 tp2", too_large("m", Recipe("L4", tp=2), 141e9, 0, 43e9))
    )
    assert telling(rows, "L4") == "2xL4 tp2: m needs 141.0 GB of weights, 2xL4 holds 43.0 GB"


def test_no_batch_that_keeps_all_limits_is_a_missed_objective_too() -> None:
    assert (
        telling(refused(("L4", LARGE), ("2xL4 tp2", too_slow_together())), "L4") == f"2xL4 tp2: {too_slow_together()}"
    )


def test_a_refusal_of_the_whole_type_is_not_said_twice() -> None:
    assert telling(refused(("L4", OBJECTION)), "L4") == OBJECTION


def test_a_type_with_a_beaten_recipe_serves_and_was_not_refused() -> None:
    assert telling(refused(("2xL4 tp2", SLOW), ("L4", beaten(Recipe("L4", techniques=("fp8",))))), "L4") is None


def test_other_types_and_refusals_of_no_type_do_not_count() -> None:
    rows = refused(("L40S", SLOW), ("w4a16", "keeps 0.97 of the 16-bit model's accuracy, the quality floor is 0.98"))
    assert telling(rows, "L4") is None
    assert telling([], "L4") is None


def test_a_reason_is_kept_once_for_each_type() -> None:
    rows = refused(("L4", OBJECTION), ("2xL4 tp2", OBJECTION), ("H100", OBJECTION))
    assert [r.recipe for r in distinct(rows)] == ["L4", "H100"]
