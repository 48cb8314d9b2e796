"""Where Hydra finds the sweeper; nothing here imports Optuna before a search begins, since Hydra imports it always."""
