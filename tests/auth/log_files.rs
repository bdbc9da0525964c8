//! What becomes of a log in a file, whatever becomes of the file.

use std::{fs, path::Path, time::Duration};

use rmcp_layers::audit::*;
use tower::ServiceExt;

use crate::{
    audit::{Folder, call, calls, lines, stack, to_file},
    common::soon,
};

#[tokio::test]
async fn a_log_goes_on_where_it_ended() {
    let folder = Folder::new();
    for run in 0..3_u64 {
        let audit = to_file(&folder.file());
        calls(&audit, &["one", "two"]).await;
        assert_eq!(audit.handle().stats().sinks[0].written, 2);
        let log = verify(folder.file()).unwrap();
        assert_eq!(
            (log.lines, log.first_seq, log.last_seq),
            (2 * (run + 1), 1, 2 * (run + 1))
        );
        assert_eq!(log.follows, "0".repeat(64));
    }
}

#[tokio::test]
async fn what_waits_is_written_when_the_audit_is_dropped() {
    let folder = Folder::new();
    let audit = to_file(&folder.file());
    for _ in 0..100 {
        stack(&audit).oneshot(call("work")).await.unwrap();
    }
    drop(audit);
    let written = async {
        while verify(folder.file()).map_or(0, |log| log.lines) < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("all records", written).await;
}

#[tokio::test]
async fn a_line_that_was_tampered_with_is_named() {
    let folder = Folder::new();
    let audit = to_file(&folder.file());
    calls(&audit, &["one", "two", "three", "four"]).await;
    drop(audit);
    let whole = fs::read_to_string(folder.file()).unwrap();
    let line = |n: usize| whole.lines().nth(n - 1).unwrap();
    let joined = |numbers: &[usize]| -> String {
        numbers.iter().map(|&n| format!("{}\n", line(n))).collect()
    };
    let other = {
        let folder = Folder::new();
        let audit = to_file(&folder.file());
        calls(&audit, &["another", "another"]).await;
        fs::read_to_string(folder.file()).unwrap()
    };
    let put_in = format!(
        "{}\n{}\n{}\n",
        line(1),
        other.lines().nth(1).unwrap(),
        line(3)
    );
    for (what, text, broken) in [
        (
            "a name changed",
            whole.replace(r#""name":"two""#, r#""name":"own""#),
            2,
        ),
        (
            "the last line changed",
            whole.replace(r#""name":"four""#, r#""name":"five""#),
            4,
        ),
        (
            "a digit of a hash changed",
            whole.replacen(r#""hash":""#, r#""hash":"x"#, 1),
            1,
        ),
        ("a line removed", joined(&[1, 3, 4]), 2),
        ("the first line removed", joined(&[2, 3, 4]), 1),
        ("lines swapped", joined(&[1, 3, 2, 4]), 2),
        ("a line twice", joined(&[1, 2, 2, 3, 4]), 3),
        ("another log's line", put_in, 2),
        (
            "a line that is no record",
            whole.replacen('\n', "\nhello\n", 1),
            2,
        ),
        ("an empty line", whole.replacen('\n', "\n\n", 1), 2),
        ("not UTF-8", whole.replace("three", "thr\u{fffd}e"), 3),
        ("the end missing", whole[..whole.len() - 5].to_owned(), 4),
        ("nothing there", String::new(), 1),
    ] {
        fs::write(folder.file(), text).unwrap();
        // A log from its second line on is how a log goes on that was rotated.
        if what == "the first line removed" {
            let log = verify(folder.file()).unwrap();
            assert_eq!(log.first_seq, 2, "and it says so");
            continue;
        }
        match verify(folder.file()) {
            Err(AuditError::Broken { line, .. }) => assert_eq!(line, broken, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    fs::write(folder.file(), whole).unwrap();
    assert_eq!(verify(folder.file()).unwrap().lines, 4);
}

#[tokio::test]
async fn a_line_that_a_crash_cut_short_is_cut_off_and_that_is_on_record() {
    let folder = Folder::new();
    calls(&to_file(&folder.file()), &["one", "two"]).await;
    let whole = fs::read(folder.file()).unwrap();
    for cut in [1, 10, 100] {
        fs::write(folder.file(), &whole[..whole.len() - cut]).unwrap();
        let audit = to_file(&folder.file());
        calls(&audit, &["three"]).await;
        let log = lines(&folder.file());
        assert_eq!(log[1]["event"], "recovered");
        assert!(log[1]["cut_bytes"].as_u64().unwrap() > 0);
        assert_eq!(log[2]["name"], "three");
        assert_eq!(verify(folder.file()).unwrap().lines, 3);
    }
}

#[tokio::test]
async fn a_file_that_is_no_log_is_not_written_to() {
    let folder = Folder::new();
    fs::write(folder.file(), "dear diary\n").unwrap();
    let opened = AuditLog::builder()
        .file(AuditFile::new(folder.file()))
        .build();
    let error = opened.unwrap_err().to_string();
    assert!(
        error.contains("audit.jsonl") && error.contains("move it away"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(folder.file()).unwrap(), "dear diary\n");
}

#[tokio::test]
async fn a_log_that_grows_large_goes_on_in_a_new_file() {
    let folder = Folder::new();
    let open = || {
        let file = AuditFile::new(folder.file()).max_bytes(4096);
        AuditLog::builder().memory(1).file(file).build().unwrap()
    };
    for _ in 0..2 {
        let audit = open();
        for _ in 0..40 {
            calls(&audit, &["work"]).await;
        }
    }
    let logs = verify_all(folder.file()).unwrap();
    assert!(logs.len() > 3, "{logs:?}");
    assert_eq!(logs.iter().map(|log| log.lines).sum::<u64>(), 80);
    for entry in fs::read_dir(&folder.0).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().len() <= 4096);
    }
    // After a rotation that nothing followed, the log goes on from the file before.
    fs::remove_file(folder.file()).unwrap();
    let last = verify_all(folder.file()).unwrap().pop().unwrap().last_seq;
    calls(&open(), &["work"]).await;
    assert_eq!(
        verify_all(folder.file()).unwrap().pop().unwrap().first_seq,
        last + 1
    );
    // A file that is missing in between is found.
    let mut files: Vec<_> = fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    fs::remove_file(&files[2]).unwrap();
    assert!(matches!(
        verify_all(folder.file()),
        Err(AuditError::Broken { line: 1, .. })
    ));
}

#[tokio::test]
async fn two_processes_do_not_tangle_one_log() {
    let folder = Folder::new();
    let (first, second) = (to_file(&folder.file()), to_file(&folder.file()));
    calls(&first, &["one"]).await;
    let _ = stack(&second).oneshot(call("two")).await;
    let failing = async {
        while !second.handle().stats().sinks[0].failing {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the second to notice", failing).await;
    let refused = stack(&second).oneshot(call("three")).await;
    assert_eq!(refused.unwrap_err().kind().as_str(), "refused");
    calls(&first, &["four"]).await;
    assert_eq!(verify(folder.file()).unwrap().lines, 2);
}

#[cfg(unix)]
#[tokio::test]
async fn others_cannot_read_a_log() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    calls(&to_file(&folder.file()), &["one"]).await;
    let mode = fs::metadata(folder.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_full_disk_leaves_no_half_a_line() {
    // Writing to this device always fails for lack of room.
    let full = Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    let opened = AuditLog::builder()
        .memory(1)
        .file(AuditFile::new(full))
        .build();
    // It cannot be read as a log, or cannot be written to: either way nothing is let through.
    if let Ok(audit) = opened {
        let _ = stack(&audit).oneshot(call("one")).await;
        let failing = async {
            while !audit.handle().stats().sinks[0].failing {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the disk to be full", failing).await;
        assert!(stack(&audit).oneshot(call("two")).await.is_err());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_whose_file_is_taken_away_goes_on_where_it_is_looked_for() {
    let folder = Folder::new();
    let path = folder.file();
    let audit = to_file(&path);
    calls(&audit, &["work"]).await;
    let before = verify(&path).unwrap();
    fs::rename(&path, path.with_extension("moved")).unwrap();
    calls(&audit, &["work", "fail"]).await;
    let after = verify(&path).unwrap();
    assert_eq!(after.follows, before.last_hash);
    assert_eq!((after.first_seq, after.last_seq), (2, 3));
    fs::remove_file(&path).unwrap();
    calls(&audit, &["work"]).await;
    let last = verify(&path).unwrap();
    assert_eq!((last.first_seq, last.follows), (4, after.last_hash));
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_that_another_program_changed_goes_on_with_a_mark() {
    use std::io::Write;
    let append = |path: &Path, text: &str| {
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    for keyed in [false, true] {
        let folder = Folder::new();
        let path = folder.file();
        let mut file = AuditFile::new(&path);
        if keyed {
            file = file.chain_key(KEY);
        }
        let audit = AuditLog::builder().memory(10).file(file.clone());
        let audit = audit.build().unwrap();
        calls(&audit, &["one", "two"]).await;
        let mut before = file.verify().unwrap();
        // As logrotate's `copytruncate` does.
        fs::write(&path, "").unwrap();
        for foreign in ["", "dear diary\n", "dear diary", "{}\n", "\n", "\0\0\0"] {
            append(&path, foreign);
            calls(&audit, &["three", "four"]).await;
            assert_eq!(audit.handle().stats().sinks[0].dropped, 0);
            let after = file.verify().unwrap();
            assert_eq!((&after.follows, after.lines), (&before.last_hash, 3));
            let log = lines(&path);
            assert_eq!(log[0]["event"], "resumed");
            assert!(log[0]["reason"].is_string());
            assert_eq!(
                (&log[1]["name"], &log[2]["name"]),
                (&"three".into(), &"four".into())
            );
            before = after;
        }
        let moved = folder.0.join(format!("audit.jsonl.foreign.{:020}", 5));
        assert!(fs::read_to_string(moved).unwrap().ends_with("dear diary\n"));
        // A line that was cut short may be another process's.
        append(&path, "{\"seq\":9,");
        let _ = stack(&audit).oneshot(call("five")).await;
        let failing = async {
            while !audit.handle().stats().sinks[0].failing {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the log to fail", failing).await;
    }
}

const KEY: &str = "thirty-two bytes, from some vault";

#[tokio::test]
async fn a_log_that_is_written_anew_without_its_key_does_not_verify() {
    let folder = Folder::new();
    let keyed = || AuditFile::new(folder.file()).chain_key(KEY);
    for names in [["one", "two"], ["three", "four"]] {
        // It goes on where it ended.
        let audit = AuditLog::builder().file(keyed()).build().unwrap();
        calls(&audit, &names).await;
    }
    assert_eq!(keyed().verify().unwrap().lines, 4);
    assert_eq!(keyed().verify_all().unwrap().len(), 1);
    let refused = |file: &AuditFile| match file.verify() {
        Err(AuditError::Broken { line: 1, .. }) => {}
        other => panic!("{other:?}"),
    };
    let others = || AuditFile::new(folder.file()).chain_key(KEY.replace("some", "that"));
    refused(&AuditFile::new(folder.file()));
    refused(&others());
    for other in [AuditFile::new(folder.file()), others()] {
        let error = AuditLog::builder().file(other).build().unwrap_err();
        assert!(error.to_string().contains("chain key"), "{error}");
    }
    // Whoever can write the file writes it anew, and leaves out what they did.
    fs::remove_file(folder.file()).unwrap();
    calls(&to_file(&folder.file()), &["one", "two"]).await;
    assert_eq!(verify(folder.file()).unwrap().lines, 2, "it is one piece");
    refused(&keyed());
    let short = AuditFile::new(folder.file()).chain_key("short");
    let error = AuditLog::builder().file(short).build().unwrap_err();
    assert!(error.to_string().contains("at least 32"), "{error}");
}

/// On this device everything can be written, and nothing synced: the system refuses it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_is_synced_as_its_durability_says() {
    let written = async |durability: Durability| {
        let options = SinkOptions::new().durability(durability);
        let file = AuditFile::new("/dev/null").options(options);
        let audit = AuditLog::builder().file(file).build().unwrap();
        stack(&audit).oneshot(call("one")).await.unwrap();
        audit
    };
    let until = async |is_so: &dyn Fn() -> bool| {
        let so = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("the log to get there", so).await;
    };
    for durability in [
        Durability::Always,
        Durability::Within(Duration::from_millis(20)),
    ] {
        let audit = written(durability).await;
        until(&|| audit.handle().stats().sinks[0].failed > 0).await;
        assert_eq!(audit.handle().stats().sinks[0].written, 1);
    }
    for durability in [
        Durability::System,
        Durability::Within(Duration::from_secs(3600)),
    ] {
        let audit = written(durability).await;
        until(&|| audit.handle().stats().sinks[0].written == 1).await;
        assert_eq!(audit.handle().stats().sinks[0].failed, 0, "{durability:?}");
        audit.handle().flush().await.unwrap_err();
        assert_eq!(audit.handle().stats().sinks[0].failed, 1, "{durability:?}");
    }
}
