"""The checks of the rules, by what they look at; each is a pure function of a prepared graph."""
