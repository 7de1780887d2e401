"""From files, archives and addresses to faces and labels. `sources` for what is trained on,
`extra` for further sets; both on top of `archives` (containers), `class_folders` and `csv_faces`
(the two forms)."""
