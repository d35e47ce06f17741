"""Tests: unit, paper rules, properties, simulation, scenarios, integration, whole processes, architecture."""
