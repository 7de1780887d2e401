"""The page of the stage `explain`, each picture with how to read it; and the model card."""

from ferlab.evaluation import tables
from ferlab.reporting import pages

READ = {  # name of a figure: (heading, how to read it)
    "right": (
        "What it looks at when it is right",
        "Middle: red marks the evidence for the class (HiResCAM). Bottom: red is how much the "
        "probability falls when a gray square hides that place; blue is where hiding helps "
        "(occlusion).",
    ),
    "wrong": (
        "What it looks at when it is wrong",
        "The same for each class's most confident mistake; evidence for the class it predicted. "
        "Red on the background or on hair means that it learned something other than the face.",
    ),
    "reliability": (
        "How far to trust its probabilities",
        "On the line, 80 % sure means right in 80 of 100 cases; below it, the network is surer "
        "than it should be. Gray bars: the share of images behind each point.",
    ),
    "maps": (
        "What its layers keep of a face",
        "Each square is one channel, bright where it is active. Early layers show edges and "
        "shadows; late ones are coarse, and stand for parts of the face or whole expressions.",
    ),
    "label_issues": (
        "Labels to look at again",
        "The training images whose label the network gives less than a tenth, the surest first. "
        "Some are wrong labels, some are hard faces: the network cannot decide, but it knows "
        "where to look.",
    ),
}


def render(about, tables, pictures):
    """The page as text.

    about: dict of dataset, network, split, images, accuracy, calibration and report (whether
    report.html lies one folder up). tables: {"errors": rows, "label_issues": {split: images}}.
    pictures: PNG bytes by name of READ; what is missing is left out.
    """
    template = pages.template("explain.html")
    return template.render(about=about, tables=tables, pictures=pictures, read=READ) + "\n"


def card(details, settings, calibration):
    """The model card (Mitchell et al. 2018, arXiv:1810.03993) as Markdown.

    details: the content of details.json. settings: the parameters. calibration: the content of
    calibration.json.
    """
    split = tables.final(details["splits"])
    text = pages.template("model_card.md").render(
        details=details,
        settings=settings,
        calibration=calibration,
        split=split,
        scores=details["splits"][split],
        views=pages.views(settings.evaluate.model_dump()),
    )
    return text + "\n"
