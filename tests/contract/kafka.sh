#!/bin/sh
# A real Apache Kafka (one KRaft node on loopback) for the contract tests, from Maven Central; needs mvn and Java 17.
#   tests/contract/kafka.sh start     prints the VBT_KAFKA__BOOTSTRAP_SERVERS to use
#   tests/contract/kafka.sh stop
set -eu
version=${KAFKA_VERSION:-4.1.0}
port=${KAFKA_PORT:-19292}
home=${KAFKA_HOME:-$HOME/.cache/vbt-kafka}
run=$home/run
mkdir -p "$run"
cd "$home"

case ${1:-} in
start)
    if [ ! -d "jars-$version" ]; then
        cat > pom.xml <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>vbt</groupId><artifactId>kafka-broker</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
        mvn -q -B dependency:copy-dependencies -DoutputDirectory="jars-$version.part" >&2
        mv "jars-$version.part" "jars-$version"
    fi
    cat > "$run/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$run/log
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
PROPERTIES
    if [ ! -d "$run/log" ]; then
        id=$(java -cp "jars-$version/*" kafka.tools.StorageTool random-uuid)
        java -cp "jars-$version/*" kafka.tools.StorageTool format --standalone -t "$id" -c "$run/server.properties" >&2
    fi
    nohup java -Xmx512m -cp "jars-$version/*" kafka.Kafka "$run/server.properties" > "$run/broker.log" 2>&1 &
    echo $! > "$run/pid"
    for _ in $(seq 60); do
        if python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2> /dev/null; then
            echo "VBT_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:$port"
            exit 0
        fi
        sleep 1
    done
    tail -20 "$run/broker.log" >&2
    exit 1
    ;;
stop)
    kill "$(cat "$run/pid")"
    ;;
*)
    sed -n '2,4p' "$0" >&2
    exit 2
    ;;
esac
