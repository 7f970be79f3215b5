-- MLflow has the database that is made with the server; Prefect gets one of its own.
CREATE DATABASE prefect;
