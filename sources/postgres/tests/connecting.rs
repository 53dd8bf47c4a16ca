//! Real servers, over TCP, unix sockets and TLS, with every way to log in: what is right gets in, and what is wrong is told why.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use florin_postgres::address::Address;
use florin_postgres::connect::{self, ConnectError};
use florin_postgres::server::{OwnServer, Programs, SUPERUSER, run};
use tempfile::TempDir;

async fn greet(address: &str) -> Result<String, ConnectError> {
    let address: Address = address.parse().unwrap();
    let (client, connection) = connect::client(&address).await?;
    let driven = tokio::spawn(connection);
    let row = client.query_one("SELECT current_user::text", &[]).await.unwrap();
    drop(client);
    driven.await.unwrap().unwrap();
    Ok(row.get(0))
}

/// Certificates made for the occasion: an authority, the server's, a client's, and an authority that nobody trusts.
struct Certificates(TempDir);

impl Certificates {
    fn make() -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let made = Certificates(folder);
        for authority in ["ca", "other-ca"] {
            made.openssl(&format!("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"));
        }
        for (name, subject, names) in [
            ("server", "/CN=db.test", "subjectAltName=DNS:db.test"),
            ("client", "/CN=holder", "subjectAltName=DNS:holder"),
        ] {
            fs::write(made.file("names"), names).unwrap();
            made.openssl(&format!(
                "req -newkey rsa:2048 -nodes -subj {subject} -keyout {name}.key -out {name}.csr"
            ));
            made.openssl(&format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"));
        }
        fs::set_permissions(made.0.path(), PermissionsExt::from_mode(0o755)).unwrap();
        made
    }

    fn openssl(&self, arguments: &str) {
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path())).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// A server that takes `reader` by a password over TCP, and `holder` by a certificate.
fn guarded(certificates: &Certificates) -> OwnServer {
    let programs = Programs::find().unwrap();
    let mut server = OwnServer::start(&programs, &[]).unwrap();
    let mut psql = programs.command("psql").unwrap();
    run(psql.arg(server.url(SUPERUSER, "postgres")).args([
        "-c",
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE holder LOGIN; CREATE ROLE reader LOGIN PASSWORD 'the secret'",
    ]))
    .unwrap();
    server.end();
    let data = server.data();
    fs::write(
        data.join("pg_hba.conf"),
        "local all postgres trust\nlocal all reader scram-sha-256\nhostssl all holder 127.0.0.1/32 cert\nhost all reader 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    for (name, target) in [("server.pem", "server.crt"), ("server.key", "server.key"), ("ca.pem", "root.crt")]
    {
        fs::copy(certificates.file(name), data.join(target)).unwrap();
        // Whoever owns the data reads it, and nobody else.
        let owner = fs::metadata(data.join("PG_VERSION")).unwrap();
        chown(data.join(target), Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(data.join(target), PermissionsExt::from_mode(0o600)).unwrap();
    }
    fs::write(data.join("postgresql.auto.conf"), "ssl = on\nssl_ca_file = 'root.crt'\n").unwrap();
    server.resume().unwrap();
    server
}

fn password_file(folder: &Path, password: &str) -> String {
    let path = folder.join(format!("{}.pgpass", password.len()));
    fs::write(&path, format!("*:*:*:reader:{password}")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn who_is_right_gets_in_and_who_is_not_is_told_why() {
    let certificates = Certificates::make();
    let server = guarded(&certificates);
    let (right, wrong) =
        (password_file(certificates.0.path(), "the secret"), password_file(certificates.0.path(), "another"));
    let (port, socket) = (server.port(), server.socket_folder().display().to_string());
    let (ca, other_ca) = (certificates.file("ca.pem"), certificates.file("other-ca.pem"));
    let identity =
        format!("sslcert={}&sslkey={}", certificates.file("client.pem"), certificates.file("client.key"));
    let tcp = |parameters: &str| format!("postgres://reader@127.0.0.1:{port}/postgres?{parameters}");

    for address in [
        tcp(&format!("passfile={right}")),
        tcp(&format!("passfile={right}&sslmode=require")),
        tcp(&format!("passfile={right}&sslmode=verify-ca&sslrootcert={ca}")),
        format!("postgres://reader@/postgres?host={socket}&port={port}&passfile={right}"),
        format!("postgres://holder@127.0.0.1:{port}/postgres?sslmode=verify-ca&sslrootcert={ca}&{identity}"),
    ] {
        let user = greet(&address).await.expect(&address);
        assert!(address.starts_with(&format!("postgres://{user}@")), "{address}: {user}");
    }

    for (address, says) in [
        (tcp(&format!("passfile={wrong}")), "password authentication failed"),
        (
            tcp(&format!("passfile={right}&sslmode=verify-full&sslrootcert={ca}")),
            "certificate not valid for name \"127.0.0.1\"",
        ),
        (
            tcp(&format!("passfile={right}&sslmode=verify-ca&sslrootcert={other_ca}")),
            "invalid peer certificate",
        ),
        (
            tcp(&format!("passfile={right}&sslmode=verify-ca&sslrootcert=/nowhere")),
            "cannot read the trusted authorities in /nowhere",
        ),
        (tcp(&format!("passfile={right}&sslmode=verify-ca&sslrootcert={right}")), "no certificate in it"),
        (
            format!("postgres://holder@127.0.0.1:{port}/postgres?sslmode=verify-ca&sslrootcert={ca}"),
            "refuses holder",
        ),
        (
            format!("postgres://reader@127.0.0.1:{port}/nowhere?passfile={right}"),
            "database \"nowhere\" does not exist",
        ),
    ] {
        let error = greet(&address).await.expect_err(&address).to_string();
        assert!(error.contains(says), "{address}: {error}");
        assert!(!error.contains("the secret") && !error.contains("another"), "{error}");
    }
}

/// A server that takes connections and says nothing is given up on.
#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up_on() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for (parameters, says) in [
        ("", "did not answer a login within 10 s"),
        ("?sslmode=require", "did not take a connection within 10 s"),
    ] {
        let error = greet(&format!("postgres://reader@127.0.0.1:{port}/d{parameters}"))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = greet(&format!("postgres://reader@127.0.0.1:{port}/d")).await.unwrap_err().to_string();
    assert!(
        error.contains("cannot reach PostgreSQL at 127.0.0.1") && error.contains("listen_addresses"),
        "{error}"
    );
}
