"""Did each thing that a prompt asks for arrive in the generated image? Pure: no model, no Ray, no pixels.

`evidence` is what goes in, `judge` puts the verdict together.
"""
