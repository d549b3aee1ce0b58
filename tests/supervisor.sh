# For scripts that run a server as a child of a test: it ends with its owner, however that ends. To be sourced.
#
# The script sets RUN, the folder with a folder for each server, and SELF, itself; `SELF _supervise` is what runs detached,
# with its pid in the server's folder.

# The identity of a process: its start time, or nothing when it is gone or a zombie.
born() {
  local stat
  { read -r stat < "/proc/$1/stat"; } 2>/dev/null || return 0
  set -- ${stat##*) }
  [ "$1" = Z ] || echo "${20}"
}

# The pid of the supervisor of server $1, where it is alive.
supervisor() {
  local pid
  [ -s "$RUN/$1/pid" ] || return 1
  read -r pid < "$RUN/$1/pid"
  grep -qz '^_supervise$' "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

# guard COMMAND...: runs it until it ends, or the process OWNER that was born at OWNER_BORN does, or this one is told to
# end; kills it then. The kernel kills it with this one.
guard() {
  local nap child
  setpriv --pdeathsig KILL "$@" &
  child=$!
  trap "kill -KILL $child 2>/dev/null" TERM INT HUP
  exec {nap}<> <(:)
  while [ "$(born $child)" ] && [ "$(born "$OWNER")" = "$OWNER_BORN" ]; do read -rt 0.2 -u $nap || :; done
  kill -KILL $child 2>/dev/null || :
  wait $child 2>/dev/null || :
}

# stop NAME...: kills servers at once and throws away what is theirs.
stop() {
  local name pid
  for name; do
    if pid=$(supervisor "$name"); then
      kill "$pid"
      while [ "$(born "$pid")" ]; do sleep 0.02; done
    fi
    rm -rf "${RUN:?}/$name"
  done
}
