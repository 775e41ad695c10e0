//! Programs of a few lines, run by the Python on PATH. Those with tensors need numpy.

use std::time::{Duration, Instant};

use serde_json::json;
use spec::Tensor;

use super::{Program, Worker, find_python, message};

fn start(text: &str, patience: Duration) -> Worker {
    let python = find_python(None).unwrap();
    let files = [("main.py", text)];
    let name = "test".to_owned();
    let (arguments, environment) = (vec![], vec![]);
    let max_bytes = 1 << 20;
    let program =
        Program { name, python, files: &files, arguments, environment, patience, max_bytes };
    Worker::start(program).unwrap()
}

fn failure(text: &str) -> String {
    let mut worker = start(text, Duration::from_secs(20));
    format!("{:#}", worker.ask(&json!({"kind": "hello"}), &[]).unwrap_err())
}

#[test]
fn messages_go_both_ways_and_prints_do_not_break_them() {
    let mut worker = start(
        "import os\n\
         from harness_channel import Channel, serve\n\
         channel = Channel()\n\
         print('from Python')\n\
         os.write(1, b'from a library')\n\
         serve(lambda head, arrays: {'kind': 'answer', 'to': head['kind']}, channel)\n",
        Duration::from_secs(20),
    );
    for kind in ["first", "second"] {
        let answer = worker.ask(&json!({"kind": kind}), &[]).unwrap();
        assert_eq!(answer.text("to"), kind);
    }
}

#[test]
fn an_exception_is_one_sentence_with_its_place() {
    let text = "from harness_channel import Channel, serve\n\
                def handle(head, arrays):\n    raise ValueError('no\\x1b[31m such\\nlayer')\n\
                serve(handle, Channel(), [__file__])\n";
    assert_eq!(failure(text), "test: ValueError: no?[31m such layer (main.py, line 3, in handle)");
}

#[test]
fn an_end_is_told_with_the_last_lines() {
    let died = failure("import sys\nprint('why', file=sys.stderr)\nsys.exit(3)\n");
    assert_eq!(
        died,
        "test: the program ended with exit code 3 without an answer; its last lines: why"
    );
    let killed = failure("import os\nos.kill(os.getpid(), 11)\n");
    assert!(killed.contains("was ended by SIGSEGV, an invalid access to memory"), "{killed}");
}

#[test]
fn a_silent_program_is_ended() {
    let before = Instant::now();
    let mut worker = start("import time\ntime.sleep(100)\n", Duration::from_millis(300));
    let error = worker.ask(&json!({}), &[]).unwrap_err().to_string();
    assert!(error.contains("has sent nothing"), "{error}");
    drop(worker);
    assert!(before.elapsed() < Duration::from_secs(50));
}

#[test]
fn sizes_are_checked_before_anything_is_allocated() {
    let huge = |shape: &str| {
        let line = format!("{{\"tensors\":[{{\"dtype\":\"f32\",\"shape\":{shape}}}]}}\\n");
        failure(&format!("import sys\nsys.stdout.write('{line}')\nsys.stdout.flush()\n"))
    };
    for shape in ["[4294967296, 4294967296]", "[1000000]", "[18446744073709551615, 2]"] {
        assert!(huge(shape).contains("have more than 1048576 bytes"), "{}", huge(shape));
    }
    assert!(huge("[-1]").contains("does not give dtype"), "{}", huge("[-1]"));
    assert!(huge("[10]").contains("ended within the 40 bytes"), "{}", huge("[10]"));
    let noise = failure("print('not a message')\n");
    assert!(noise.contains("`not a message` is not JSON"), "{noise}");
}

#[test]
fn a_message_is_read_as_it_was_written() {
    let tensors =
        [Tensor::f32([2, 2], vec![1.0, -0.0, f32::MIN, 3.5]), Tensor::f64([1], vec![0.1])];
    let bytes = message::encode(&json!({"kind": "x"}), &[&tensors[0], &tensors[1]]);
    let mut from = bytes.as_slice();
    let read = message::decode(&mut from, 1 << 10).unwrap().unwrap();
    assert_eq!((read.text("kind"), read.tensors.as_slice()), ("x", tensors.as_slice()));
    assert_eq!(message::decode(&mut from, 1 << 10).unwrap(), None);
}
