#!/usr/bin/env bash
# A throw-away Apache Kafka (KRaft) for tests, from Maven jars. Java 17 or later; Maven only for the first fetch.
#   kafka.sh fetch              fill the cache of jars
#   kafka.sh start              format and start a new cluster on free loopback ports; prints
#                               run=DIR, bootstrap=HOST:PORT[,...], pid=N (pid2=, pid3=), with KAFKA_SECURE=1 also
#                               secure=HOST:PORT[,...], mutual=HOST:PORT[,...], ca=FILE, ca_key=FILE, user=, password=;
#                               with KAFKA_LINKS=K also link1= to linkK=
#   kafka.sh stop DIR           SIGKILL all brokers of DIR and throw their data away
#   kafka.sh kill DIR [N]       SIGKILL broker N (default 1)
#   kafka.sh restart DIR [N]    stop broker N gracefully if it runs, start it on the same data and port; prints pid=N
#   kafka.sh tool CLASS ARG...  a Kafka command line tool, as org.apache.kafka.tools.TopicCommand
# Environment:
#   KAFKA_LIBS      cache of jars (default ${XDG_CACHE_HOME:-$HOME/.cache}/asiduo/kafka-libs-VERSION)
#   KAFKA_RUN       directory of this cluster, missing or empty (default: a new temporary one, which stop removes)
#   KAFKA_BROKERS   how many (default 1); node 1 is also the controller; with 3, topics have three replicas and
#                   min.insync.replicas=2
#   KAFKA_LINKS     how many more listeners each broker has that are advertised at another port, where a proxy of the
#                   caller should listen (default 0)
#   KAFKA_SECURE    1 = also a SASL_SSL listener (SCRAM-SHA-256, SCRAM-SHA-512, PLAIN, OAUTHBEARER with tokens that nobody
#                   signs), one with mutual TLS, and an authorizer that lets in only whom ACLs name; the plain listener and
#                   the user that is printed are above it. Needs openssl
#   KAFKA_FEATURES  feature levels to format with, as "transaction.version=0"
#   KAFKA_EXTRA     more broker settings, as "a=b;c=d"
#   KAFKA_VERSION   another version of the jars;  KAFKA_HEAP (512m);  KAFKA_LOG_LEVEL (warn)
#   KAFKA_CDS       0 = do not make or use the archive of class data beside the jars
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${KAFKA_VERSION:-$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$here/pom.xml")}
libs=${KAFKA_LIBS:-${XDG_CACHE_HOME:-$HOME/.cache}/asiduo/kafka-libs-$version}
secure=${KAFKA_SECURE:-0}
n=${KAFKA_BROKERS:-1}
links=${KAFKA_LINKS:-0}
user=test password=test-secret

say() { echo "kafka.sh: $*" >&2; }
die() { say "$@"; exit 1; }

# --- jars and class data -----------------------------------------------------------------------------------------

# use_java sets the JVM command. A JVM ignores an archive that another build of Java made, hence the name by release.
use_java() {
  local java release
  java=$(command -v java) || die "java not found; Java 17 or later is needed"
  java=$(readlink -f "$java")
  release=$(cat "${java%/bin/java}/release" 2>/dev/null || echo "$java")
  cds="$libs/classes-$(cksum <<<"$release" | cut -d' ' -f1).jsa"
  jvm=(java -Xlog:disable -XX:+UseSerialGC -XX:TieredStopAtLevel=1
    "-Dlog4j2.configurationFile=$here/log4j2.properties" "-Dkafka.log.level=${KAFKA_LOG_LEVEL:-warn}" -cp "$libs/*")
  share=()
  if [ "${KAFKA_CDS:-1}" = 1 ] && [ -f "$cds" ]; then share=(-Xshare:auto "-XX:SharedArchiveFile=$cds"); fi
}

# have says whether the jars are complete: download moves the server's jar in last.
have() { compgen -G "$libs/kafka-server-$version.jar" >/dev/null; }

# fetch is safe when several run at once: one at a time where flock exists, and every file appears by a rename.
fetch() {
  mkdir -p "$libs"; libs=$(cd "$libs" && pwd); use_java
  if have && { [ "${KAFKA_CDS:-1}" != 1 ] || [ -f "$cds" ]; }; then return; fi
  (
    if command -v flock >/dev/null; then exec 9>"$libs/.lock"; flock 9; fi
    have || download
    if [ "${KAFKA_CDS:-1}" = 1 ] && ! [ -f "$cds" ]; then warm; fi
  )
  use_java
}

download() {
  command -v mvn >/dev/null || die "mvn not found; it is needed once to fetch Kafka $version into $libs"
  local tmp; tmp=$(mktemp -d "$libs/.fetch.XXXXXX")
  mvn -q -B -Dstyle.color=never -f "$here/pom.xml" "-Dkafka.version=$version" dependency:copy-dependencies \
    -DincludeScope=runtime "-DoutputDirectory=$tmp" >&2 9>&- || { rm -rf "$tmp"; die "Maven could not fetch Kafka $version"; }
  mv "$tmp/kafka-server-$version.jar" "$tmp/.last"
  mv "$tmp"/*.jar "$libs/"
  mv "$tmp/.last" "$libs/kafka-server-$version.jar"
  rm -rf "$tmp"
}

# warm runs one broker and stores the classes it loaded: every later start takes about half the time.
warm() {
  (
    exec 9>&-
    run=$(mktemp -d "${TMPDIR:-/tmp}/kafka.XXXXXX") n=1 secure=0 made=0
    tmp="$libs/.classes.$$.jsa"
    trap 'halt 1 now; release_ports; rm -rf "$run" "$tmp"' EXIT
    share=(-Xshare:auto "-XX:ArchiveClassesAtExit=$tmp")
    cluster >/dev/null
    halt 1
    if [ -f "$tmp" ]; then mv "$tmp" "$cds"; fi
  ) || say "no class data archive; brokers start more slowly"
}

# --- one cluster -------------------------------------------------------------------------------------------------

# An id with neither - nor _: one that begins with - is taken for an option.
new_id() { head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | tr -d '='; }

# hold_ports sets ports to $1 distinct loopback ports where nobody listens, below the usual ephemeral range: above it,
# an outgoing connection of any process may take the port before the broker does. Each is held for this cluster until
# stop, also while nobody listens there, by a link from its number to $run: making one is atomic, and fails if there is
# one. cmd/asiduo's tests hold theirs for the cluster in the same way (freeAddress). Where no link can be made, ports are
# only looked at.
hold_ports() {
  local p t=0; ports=()
  find_held
  forget_ports
  while [ ${#ports[@]} -lt "$1" ]; do
    t=$((t + 1)); [ "$t" -le 5000 ] || die "no free ports${held:+; links in $held hold them}"
    p=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    case " ${ports[*]-} " in *" $p "*) continue ;; esac
    if [ -n "$held" ] && ! ln -sn "$run" "$held/$p" 2>/dev/null; then
      if [ -L "$held/$p" ]; then continue; fi
      say "no links can be made in $held: ports are not held"; held=
    fi
    # One where somebody listens stays held too: it is of no use to anybody else.
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null; then ports+=("$p"); fi
  done
}

# find_held sets held to the directory of these links: not in TMPDIR if it can be, as everybody on the machine has to look
# at the same place. Empty: nowhere.
find_held() {
  for held in "/tmp/asiduo-ports-$UID" "${TMPDIR:-/tmp}/asiduo-ports-$UID"; do
    if mkdir -p "$held" 2>/dev/null && [ -w "$held" ]; then return 0; fi
  done
  held=
}

# forget_ports lets go what clusters hold that are gone. One at a time: between the look of another and its removal, the
# port may be somebody's again.
forget_ports() {
  local l to asked=: here=:
  [ -n "$held" ] || return 0
  if [ -L "$held/sweep" ] && ! lives "$(readlink "$held/sweep")"; then rm -f "$held/sweep"; fi
  ln -sn "$run" "$held/sweep" 2>/dev/null || return 0
  for l in "$held"/[0-9]*; do
    to=$(readlink "$l") || continue
    case $asked in *":$to:"*) ;; *) asked="$asked$to:"; if lives "$to"; then here="$here$to:"; fi ;; esac
    case $here in *":$to:"*) ;; *) rm -f "$l" ;; esac
  done
  rm -f "$held/sweep"
}

# lives says whether the cluster in directory $1 is there: a process of it runs, or a start or kill was at it just now.
# What was killed together with its start, or the machine, is not, though it has left its directory.
lives() {
  local run=$1 f
  [ -e "$run/cluster" ] || return 1
  if [ -z "$(find "$run/" -maxdepth 0 -mmin +10 2>/dev/null)" ]; then return 0; fi
  for f in "$run"/*.pid; do if pid "$(basename "$f" .pid)" >/dev/null 2>&1; then return 0; fi; done
  return 1
}

# release_ports lets go what this cluster holds; while it does, the cluster must still be there.
release_ports() {
  local l
  find_held
  [ -n "$held" ] || return 0
  for l in "$held"/[0-9]* "$held/sweep"; do if [ -L "$l" ] && [ "$l" -ef "$run" ]; then rm -f "$l"; fi; done
}
controller_port() { echo "${ports[0]}"; }
plain_port() { echo "${ports[$1]}"; }
secure_port() { echo "${ports[$((n + $1))]}"; }
mutual_port() { echo "${ports[$((2 * n + 2 * n * links + $1))]}"; }
# Of link $2 to broker $1: where the broker listens, and where it says that it does.
link_port() { echo "${ports[$((2 * n + 1 + 2 * ((${2} - 1) * n + ${1} - 1)))]}"; }
proxy_port() { echo "${ports[$((2 * n + 2 + 2 * ((${2} - 1) * n + ${1} - 1)))]}"; }
link() { local i s=""; for ((i = 1; i <= n; i++)); do s="$s,127.0.0.1:$(link_port "$i" "$1")/127.0.0.1:$(proxy_port "$i" "$1")"; done; echo "${s#,}"; }
addresses() { local i s=""; for ((i = 1; i <= n; i++)); do s="$s,127.0.0.1:$("$1" "$i")"; done; echo "${s#,}"; }

# make_keys makes an authority and the brokers' certificate. Kafka takes the key in PKCS#8 only.
make_keys() {
  (
    cd "$run"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=test authority" \
      -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=127.0.0.1 -keyout b.key -out b.csr
    openssl x509 -req -in b.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out b.crt \
      -extfile <(echo "subjectAltName=IP:127.0.0.1,DNS:localhost")
    openssl pkcs8 -topk8 -nocrypt -in b.key | cat - b.crt >b.pem
    rm b.key b.csr b.crt
  ) 2>"$run/keys.log" || { cat "$run/keys.log" >&2; die "openssl could not make certificates"; }
}

# secure_config prints the settings of the listeners that ask who is there. ANONYMOUS are the plain listeners: the brokers
# themselves, and the administrator of a test.
secure_config() {
  local module=org.apache.kafka.common.security
  cat <<END
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:$user
ssl.keystore.type=PEM
ssl.keystore.location=$run/b.pem
ssl.truststore.type=PEM
ssl.truststore.location=$run/ca.pem
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER
listener.name.secure.scram-sha-256.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.secure.plain.sasl.jaas.config=$module.plain.PlainLoginModule required user_$user="$password";
listener.name.secure.oauthbearer.sasl.jaas.config=$module.oauthbearer.OAuthBearerLoginModule required;
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.principal.mapping.rules=RULE:^CN=([^,]+).*\$/\$1/,DEFAULT
END
}

config() {
  local i=$1 roles=broker listeners advertised rf=$((n < 3 ? n : 3)) isr=$((n < 3 ? 1 : 2)) ctrl k map=""
  ctrl=$(controller_port); listeners="PLAINTEXT://127.0.0.1:$(plain_port "$i")"
  if [ "$secure" = 1 ]; then
    listeners="$listeners,SECURE://127.0.0.1:$(secure_port "$i"),MUTUAL://127.0.0.1:$(mutual_port "$i")"
  fi
  advertised=$listeners
  for ((k = 1; k <= links; k++)); do
    listeners="$listeners,LINK$k://127.0.0.1:$(link_port "$i" "$k")"
    advertised="$advertised,LINK$k://127.0.0.1:$(proxy_port "$i" "$k")"; map="$map,LINK$k:PLAINTEXT"
  done
  if [ "$i" = 1 ]; then
    roles=broker,controller
    listeners="$listeners,CONTROLLER://127.0.0.1:$ctrl"; advertised="$advertised,CONTROLLER://127.0.0.1:$ctrl"
  fi
  sed -e "s|@ROLES@|$roles|;s|@NODE@|$i|;s|@CTRL@|$ctrl|;s|@LISTENERS@|$listeners|;s|@ADVERTISED@|$advertised|" \
    -e "s|@DATA@|$run/data$i|;s|@RF@|$rf|;s|@ISR@|$isr|;s|@LINKS@|$map|" "$here/server.properties.in" >"$run/$i.properties"
  if [ "$secure" = 1 ]; then secure_config >>"$run/$i.properties"; fi
  tr ';' '\n' <<<"${KAFKA_EXTRA:-}" >>"$run/$i.properties"
}

format() {
  local i=$1 f how=(--no-initial-controllers)
  if [ "$i" = 1 ]; then how=(--standalone); fi
  for f in ${KAFKA_FEATURES:-}; do how+=(--feature "$f"); done
  if [ "$secure" = 1 ]; then
    how+=(--add-scram "SCRAM-SHA-256=[name=$user,password=$password]" --add-scram "SCRAM-SHA-512=[name=$user,password=$password]")
  fi
  # Writing the archive is for the broker alone; formatting only reads one.
  local read=(); case "${share[*]-}" in *SharedArchiveFile*) read=("${share[@]}") ;; esac
  "${jvm[@]}" ${read[@]+"${read[@]}"} "-Dkafka.log.file=$run/format$i.log" kafka.tools.StorageTool format "${how[@]}" \
    -t "$cluster_id" -c "$run/$i.properties" >"$run/$i.format" 2>&1 || { cat "$run/$i.format" >&2; return 1; }
}

# launch writes the pid before the process becomes the broker, so that stop finds it whatever happens in between.
launch() {
  local i=$1
  local audit=off
  if [ "$secure" = 1 ]; then audit=debug; fi
  rm -f "$run/$i.log" "$run/$i.log.acl"
  (
    exec 9>&-
    echo "$BASHPID" >"$run/$i.pid"
    exec nohup "${jvm[@]}" ${share[@]+"${share[@]}"} "-Xmx${KAFKA_HEAP:-512m}" "-Dkafka.log.file=$run/$i.log" \
      "-Dkafka.acl.level=$audit" kafka.Kafka "$run/$i.properties" >"$run/$i.out" 2>&1 </dev/null
  ) &
}

# pid prints the process of node $1 if it lives and is ours: process ids are used again.
pid() {
  local p args; [ -f "$run/$1.pid" ] || return 1
  p=$(cat "$run/$1.pid"); [ -n "$p" ] || return 1
  if [ -r "/proc/$p/cmdline" ]; then args=$(tr '\0' ' ' <"/proc/$p/cmdline"); else args=$(ps -o args= -p "$p") || return 1; fi
  case $args in *"$run/$1.properties"* | *kafka.sh*) echo "$p" ;; *) return 1 ;; esac
}

# listens says whether process $1 itself listens on port $2: another test's broker may answer there.
listens() {
  local inode
  if ! [ -r /proc/net/tcp ]; then lsof -a -p "$1" "-iTCP:$2" -sTCP:LISTEN >/dev/null 2>&1; return; fi
  inode=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
    awk -v port="$(printf ':%04X' "$2")" '$4 == "0A" && substr($2, length($2) - 4) == port { print "socket:[" $10 "]" }')
  [ -n "$inode" ] && find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null | grep -qxF "$inode"
}

# ready waits until the broker says that it has started and our process listens.
ready() {
  local i=$1 t p port; port=$(sed -n 's|^listeners=PLAINTEXT://127.0.0.1:\([0-9]*\).*|\1|p' "$run/$i.properties")
  for ((t = 0; t < 600; t++)); do
    p=$(pid "$i") || return 1
    if grep -qs 'Kafka Server started' "$run/$i.log" && listens "$p" "$port"; then return 0; fi
    sleep 0.1
  done
  say "node $i is not ready after 60 s"; return 1
}

# halt stops node $1: SIGTERM and 30 s of patience, or with "now" SIGKILL; it returns when the process is gone.
halt() {
  local i=$1 p t; p=$(pid "$i") || { rm -f "$run/$i.pid"; return 0; }
  kill -CONT "$p" 2>/dev/null || true # a frozen broker hears no SIGTERM
  if [ "${2:-}" != now ]; then
    kill "$p" 2>/dev/null || true
    for ((t = 0; t < 300; t++)); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
  fi
  kill -9 "$p" 2>/dev/null || true
  for ((t = 0; t < 100; t++)); do
    if ! pid "$i" >/dev/null; then rm -f "$run/$i.pid"; return 0; fi
    sleep 0.1
  done
  die "process $p of node $i does not end"
}
halt_all() { local f; for f in "$run"/*.pid; do if [ -f "$f" ]; then halt "$(basename "$f" .pid)" now; fi; done; }
wipe() {
  release_ports
  rm -rf "$run"/data* "$run"/*.properties "$run"/*.format "$run"/*.pid "$run"/*.pem "$run"/ca.* "$run/cluster"
}

# cluster starts n brokers in $run. A port lost to another process between looking and binding is a reason to try again.
cluster() {
  local i try failed
  for try in 1 2 3 4 5; do
    echo "made=$made" >"$run/cluster" # before ports are held, which are let go when it is missing
    hold_ports $((1 + 3 * n + 2 * n * links)); cluster_id=$(new_id); failed=0
    if [ "$secure" = 1 ]; then make_keys; fi
    local jobs=()
    for ((i = 1; i <= n; i++)); do config "$i"; format "$i" & jobs+=($!); done
    for i in "${jobs[@]}"; do wait "$i" || die "formatting failed"; done
    for ((i = 1; i <= n; i++)); do launch "$i"; until [ -s "$run/$i.pid" ]; do sleep 0.01; done; done
    for ((i = 1; i <= n; i++)); do ready "$i" || { failed=$i; break; }; done
    if [ "$failed" = 0 ]; then return; fi
    if ! grep -qsE 'Address already in use|BindException' "$run"/*.log "$run"/*.out; then
      tail -n 20 "$run/$failed.out" "$run/$failed.log" >&2 || true; die "node $failed did not start"
    fi
    halt_all; wipe
  done
  die "no free ports after $try tries"
}

start() {
  made=0
  if [ -n "${KAFKA_RUN:-}" ]; then
    run=$KAFKA_RUN; mkdir -p "$run"; run=$(cd "$run" && pwd)
    [ -z "$(ls -A "$run")" ] || die "KAFKA_RUN is not empty: $run"
  else
    run=$(mktemp -d "${TMPDIR:-/tmp}/kafka.XXXXXX"); made=1
  fi
  trap 'halt_all; wipe; say "not started; logs in $run"' EXIT # neither processes nor data stay behind
  trap 'exit 130' INT TERM HUP
  fetch
  cluster
  trap - EXIT
  local i
  printf 'run=%s\nbootstrap=%s\n' "$run" "$(addresses plain_port)"
  for ((i = 1; i <= n; i++)); do printf 'pid%s=%s\n' "$([ "$i" = 1 ] || echo "$i")" "$(cat "$run/$i.pid")"; done
  for ((i = 1; i <= links; i++)); do printf 'link%s=%s\n' "$i" "$(link "$i")"; done
  if [ "$secure" = 1 ]; then
    printf 'secure=%s\nmutual=%s\n' "$(addresses secure_port)" "$(addresses mutual_port)"
    printf 'ca=%s\nca_key=%s\nuser=%s\npassword=%s\n' "$run/ca.pem" "$run/ca.key" "$user" "$password"
  fi
}

stop() {
  halt_all
  local made=0
  if grep -qsx made=1 "$run/cluster"; then made=1; fi
  wipe
  if [ "$made" = 1 ]; then rm -rf "$run"; fi
}

# of sets run, and of_node also node, of a command about an existing cluster.
of() {
  [ -n "${1:-}" ] || die "which cluster? give the directory that start printed as run="
  [ -f "$1/cluster" ] || die "no cluster in $1"
  run=$(cd "$1" && pwd)
}
of_node() {
  of "${1:-}"; node=${2:-1}
  [ -f "$run/$node.properties" ] || die "no node $node in $run"
}

case ${1:-} in
fetch) fetch ;;
start) start ;;
stop) of "${2:-}"; stop ;;
kill) of_node "${2:-}" "${3:-}"; pid "$node" >/dev/null || die "node $node does not run"; halt "$node" now ;;
restart)
  of_node "${2:-}" "${3:-}"; fetch; halt "$node"; launch "$node"; until [ -s "$run/$node.pid" ]; do sleep 0.01; done
  ready "$node" || { tail -n 20 "$run/$node.out" "$run/$node.log" >&2 || true; halt "$node" now; die "node $node did not start"; }
  echo "pid=$(cat "$run/$node.pid")" ;;
tool) shift; fetch; exec "${jvm[@]}" ${share[@]+"${share[@]}"} -Dkafka.log.file=/dev/null "$@" ;;
*) sed -n '2,/^set /{/^#/p;}' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
