"""The catalogue's tables as people read them."""

from planner.architecture import active_parameters, parameters
from planner.catalog import models
from planner.show_tables import model_table, price_notes


def test_a_model_of_a_trillion_parameters_is_printed_without_an_exponent() -> None:
    table = model_table(models(), [(parameters(m), active_parameters(m)) for m in models()])
    assert not any("e+" in cell for row in table.rows if isinstance(row, tuple) for cell in row)


def test_the_table_of_gpus_says_what_its_prices_are() -> None:
    assert "list prices" in " ".join(note.text for note in price_notes())
