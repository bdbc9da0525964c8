# Runs a stdio server, noting what it is sent: noted.sh NOTES COMMAND...
notes=$1
shift
tee -a "$notes" | "$@"
