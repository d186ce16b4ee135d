"""Results for people: each module takes results and returns text, knows no registry and no pytest."""
