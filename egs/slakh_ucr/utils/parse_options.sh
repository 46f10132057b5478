# Sourced by run.sh after its defaults: turns `--some_option value` into `some_option=value`, for
# variables that run.sh has set, as in the recipes of Kaldi and Asteroid. `--help` prints the
# comment at the top of the script.

while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h)
      sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    --*)
      name=${1#--}
      name=${name//-/_}
      if [ -z "${!name+set}" ]; then
        echo "$0: error: unknown option $1; see --help." >&2
        exit 2
      fi
      if [ $# -lt 2 ]; then
        echo "$0: error: option $1 needs a value." >&2
        exit 2
      fi
      printf -v "$name" %s "$2"
      shift 2
      ;;
    *)
      echo "$0: error: unexpected argument $1; see --help." >&2
      exit 2
      ;;
  esac
done
