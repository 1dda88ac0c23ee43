//! Mails by SMTP, to a sink that speaks just enough of it.

use sqlx::PgPool;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::support::Portal;

/// Takes one mail and answers what came after `DATA`.
async fn take_mail(mut socket: TcpStream) -> String {
    let (read, mut write) = socket.split();
    let mut lines = BufReader::new(read).lines();
    let mut data = String::new();
    let mut in_data = false;
    write.write_all(b"220 sink\r\n").await.unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        if in_data {
            if line == "." {
                in_data = false;
                write.write_all(b"250 taken\r\n").await.unwrap();
            } else {
                data.push_str(&line);
                data.push('\n');
            }
            continue;
        }
        let answer: &[u8] = match line.split(' ').next().unwrap_or_default() {
            "DATA" => {
                in_data = true;
                b"354 go on\r\n"
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await.unwrap();
                break;
            }
            _ => b"250 ok\r\n",
        };
        write.write_all(answer).await.unwrap();
    }
    data
}

#[sqlx::test(migrations = "../migrations")]
async fn a_mail_leaves_by_smtp_once_and_its_text_is_removed(pool: PgPool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let portal = Portal::with_settings(pool, &[("SMTP_URL", &url), ("MAIL_FROM", "Portal <portal@example.com>")]);
    let form = [("name", "Ada"), ("email", "ada@example.com"), ("password", "correct horse battery")];
    portal.visitor().post("/sign-up", &form).await.expect_status(200);
    let sink = tokio::spawn(async move { take_mail(listener.accept().await.unwrap().0).await });
    portal.run_jobs().await;
    let (sent, text): (bool, String) =
        sqlx::query_as("SELECT sent_at IS NOT NULL, text FROM mails").fetch_one(&portal.app.pool).await.unwrap();
    assert!(sent, "the job has sent it");
    assert_eq!(text, "", "the link is no longer in the database");
    let mail = sink.await.unwrap();
    for part in ["From: Portal <portal@example.com>", "To: ada@example.com", "Subject: Verify your e-mail address", "/verify?token=3D"] {
        assert!(mail.contains(part) || mail.contains(&part.replace("=3D", "=")), "{part} is missing: {mail}");
    }
    portal.run_jobs().await;
}
