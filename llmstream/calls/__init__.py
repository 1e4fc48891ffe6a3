"""From a request to an accepted answer: slots and budgets, one HTTP call, what came back, what it cost."""
