// Debezium's embedded engine on florin's table in a PostgreSQL, into a topic, as Kafka Connect would have it: each record's key is the
// user's id, its value the envelope, and Kafka's own Java producer says the partition. Ends with its standard input.
//
//   java -cp 'JARS/*' Publish.java PGHOST PGPORT PGUSER PGDATABASE BROKERS TOPIC FOLDER with-schema|without-schema

import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.util.Properties;
import java.util.concurrent.Executors;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

public class Publish {
    public static void main(String[] words) throws Exception {
        Properties to = new Properties();
        to.put("bootstrap.servers", words[4]);
        to.put("enable.idempotence", "true");
        to.put("acks", "all");
        KafkaProducer<String, String> producer = new KafkaProducer<>(to, new StringSerializer(), new StringSerializer());
        String topic = words[5];

        Properties from = new Properties();
        from.put("name", "florin");
        from.put("connector.class", "io.debezium.connector.postgresql.PostgresConnector");
        from.put("database.hostname", words[0]);
        from.put("database.port", words[1]);
        from.put("database.user", words[2]);
        from.put("database.dbname", words[3]);
        from.put("plugin.name", "pgoutput");
        from.put("slot.name", "debezium");
        from.put("publication.name", "debezium");
        from.put("publication.autocreate.mode", "filtered");
        from.put("table.include.list", "public.transactions");
        from.put("topic.prefix", "florin");
        from.put("snapshot.mode", "initial");
        from.put("offset.storage", "org.apache.kafka.connect.storage.FileOffsetBackingStore");
        from.put("offset.storage.file.filename", words[6] + "/offsets");
        from.put("offset.flush.interval.ms", "1000");
        // The key is the user's id, and nothing else.
        from.put("message.key.columns", "public.transactions:user_id");
        from.put("transforms", "key");
        from.put("transforms.key.type", "org.apache.kafka.connect.transforms.ExtractField$Key");
        from.put("transforms.key.field", "user_id");
        from.put("key.converter.schemas.enable", "false");
        from.put("value.converter.schemas.enable", words[7].equals("with-schema") ? "true" : "false");

        DebeziumEngine<ChangeEvent<String, String>> engine = DebeziumEngine.create(Json.class)
            .using(from)
            .using((success, message, error) -> {
                System.out.println("ended: " + message);
                if (error != null) error.printStackTrace();
            })
            .notifying((records, committer) -> {
                for (ChangeEvent<String, String> record : records) {
                    producer.send(new ProducerRecord<>(topic, record.key(), record.value()));
                    committer.markProcessed(record);
                }
                producer.flush();
                committer.markBatchFinished();
            })
            .build();
        var running = Executors.newSingleThreadExecutor();
        running.execute(engine);
        while (System.in.read() >= 0) { }
        engine.close();
        producer.close();
        System.exit(0);
    }
}
