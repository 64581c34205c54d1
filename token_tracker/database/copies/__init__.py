"""The whole database as rows of plain values, to be kept in a file or put into another database.

A copy is one state of all tables: it is read in one transaction, and whoever takes it checks counts and sums.
"""
