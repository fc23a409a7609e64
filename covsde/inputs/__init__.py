"""What users give: arguments, inputs, matrices in files, targets."""

from covsde.inputs.gram import gram as gram
