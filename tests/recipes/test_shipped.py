"""The recipe `quickstart` says what the shipped model was trained by."""

from dataclasses import replace

from trimask.data.selection import QuickstartData
from trimask.recipes.quickstart import quickstart
from trimask.runs.load import load_config_of
from trimask.sharing.contents import gather_contents


def test_the_recipe_states_the_run_that_ships() -> None:
    recipe, shipped = quickstart(), load_config_of("quickstart")
    assert isinstance(recipe.data, QuickstartData) and isinstance(shipped.data, QuickstartData)
    # Its last run was the fall of the rate, on sentences from a folder, in bf16: the recipe says so in words.
    assert (
        replace(
            recipe,
            seed=shipped.seed,
            data=replace(recipe.data, readings=shipped.data.readings),
            lr_schedule=shipped.lr_schedule,
            num_steps=shipped.num_steps,
            evaluate_every=shipped.evaluate_every,
            compute=shipped.compute,
        )
        == shipped
    )


def test_what_is_shared_has_the_configuration_of_the_run() -> None:
    shipped = load_config_of("quickstart")
    expected = replace(shipped, data=shipped.data.without_places())
    assert gather_contents("quickstart").config == expected != quickstart()
