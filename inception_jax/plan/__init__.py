"""What a recipe will do, before it is paid for."""
