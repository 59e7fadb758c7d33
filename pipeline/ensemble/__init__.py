"""Ensembles of separately trained nets (Sec. 4.1, Table 5): members from MLflow, chosen on validation, averaged, served."""
