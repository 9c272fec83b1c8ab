"""Command line interface: `main` dispatches to one module per subcommand."""
