"""The search engine: bilevel gradients, the curvature of the validation loss, and the policies that read it."""
