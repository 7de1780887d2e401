"""From files, archives and addresses to faces and labels."""
