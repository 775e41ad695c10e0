//! The stack machine, with one function for each group of opcodes.

use std::collections::HashMap;

use super::classes::{Class, MODULES, resolve, whole_module};
use super::value::{Obj, Pickle, Value};
use crate::cursor::Cursor;
use crate::error::{Failure, quoted};

/// Largest number of opcodes. The longest checkpoint of this network (depth 200 with the state of an
/// optimiser) has about 300 000.
const MAX_STEPS: usize = 4_000_000;
/// Largest number of values on the stack at once.
const MAX_STACK: usize = 1 << 20;
/// Largest number of memo entries.
const MAX_MEMO: usize = 1 << 20;
/// Largest number of tensors, arrays and storages together.
const MAX_TENSORS: usize = 1 << 16;
/// The highest protocol, which Python has had since 3.8.
const MAX_PROTOCOL: u8 = 5;

/// The error for a limit that no real checkpoint reaches.
pub(super) fn beyond(what: &str, limit: usize) -> Failure {
    Failure::new(
        format!(
            "the pickle has more than {limit} {what}; no checkpoint of this network needs that many"
        ),
        "get the checkpoint from another source",
    )
}

/// The state of the machine while it reads one pickle.
pub(super) struct Machine<'a> {
    input: Cursor<'a>,
    bytes: &'a [u8],
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<usize, Value<'a>>,
    pub(super) objects: Vec<Obj<'a>>,
    tensors: usize,
    /// Number of bytes and items that constructors have copied so far.
    copied: usize,
    copy_limit: usize,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Machine {
            input: Cursor::new(bytes),
            bytes,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            objects: Vec::new(),
            tensors: 0,
            copied: 0,
            copy_limit: bytes.len().saturating_mul(4).saturating_add(1 << 20),
        }
    }

    /// Executes opcodes up to the one that ends the pickle.
    pub(super) fn run(mut self) -> Result<Pickle<'a>, Failure> {
        for _ in 0..MAX_STEPS {
            let op = self.input.byte()?;
            if op == b'.' {
                let root = self.pop()?;
                return Ok(Pickle { objects: self.objects, root, end: self.input.position() });
            }
            self.step(op)?;
            if self.stack.len() > MAX_STACK || self.marks.len() > MAX_STACK {
                return Err(beyond("values at once", MAX_STACK));
            }
        }
        Err(beyond("steps", MAX_STEPS))
    }

    fn step(&mut self, op: u8) -> Result<(), Failure> {
        match op {
            0x80 => self.protocol(),
            0x95 => self.input.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.discard(),
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let top = self.top()?.clone();
                self.push(top)
            }
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memory(op),
            b'N' | 0x88 | 0x89 | b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'F' | b'G' => {
                self.number(op)
            }
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => {
                self.string(op)
            }
            b']' | b'l' | b'a' | b'e' | b')' | b't' | 0x85 | 0x86 | 0x87 | b'}' | b'd' | b's'
            | b'u' | 0x8f | 0x90 | 0x91 => self.container(op),
            b'c' | 0x93 | b'i' | b'o' | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.construct(op),
            _ => Err(self.unknown(op)),
        }
    }

    fn unknown(&self, op: u8) -> Failure {
        let at = self.input.position().saturating_sub(1);
        Failure::new(
            format!("opcode {op:#04x} at offset {at} is not one that a checkpoint uses"),
            "get the file again, or convert it to safetensors",
        )
    }

    fn protocol(&mut self) -> Result<(), Failure> {
        match self.input.byte()? {
            0..=MAX_PROTOCOL => Ok(()),
            newer => Err(Failure::new(
                format!("the pickle protocol {newer} is newer than {MAX_PROTOCOL}"),
                "save it with an older protocol, or as safetensors",
            )),
        }
    }

    // Stack.

    pub(super) fn push(&mut self, value: Value<'a>) -> Result<(), Failure> {
        self.stack.push(value);
        Ok(())
    }

    /// Adds a new object to the arena and pushes its index on the stack.
    pub(super) fn push_object(&mut self, object: Obj<'a>) -> Result<(), Failure> {
        if matches!(object, Obj::Tensor(_) | Obj::Array(_) | Obj::Storage(_) | Obj::Unsupported(_))
        {
            self.tensors += 1;
            if self.tensors > MAX_TENSORS {
                return Err(beyond("tensors", MAX_TENSORS));
            }
        }
        self.objects.push(object);
        self.push(Value::Ref(self.objects.len() - 1))
    }

    pub(super) fn pop(&mut self) -> Result<Value<'a>, Failure> {
        // Values below the last mark belong to the group outside it.
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len() > floor {
            true => self
                .stack
                .pop()
                .ok_or_else(|| Failure::damaged("the pickle pops from an empty stack")),
            false => Err(Failure::damaged("the pickle pops from an empty stack")),
        }
    }

    fn discard(&mut self) -> Result<(), Failure> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn top(&self) -> Result<&Value<'a>, Failure> {
        self.stack.last().ok_or_else(|| Failure::damaged("the pickle pops from an empty stack"))
    }

    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>, Failure> {
        let Some(mark) = self.marks.pop() else {
            return Err(Failure::damaged("the pickle closes a group that it never opened"));
        };
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn pop_n(&mut self, n: usize) -> Result<Vec<Value<'a>>, Failure> {
        let mut out = Vec::with_capacity(n);
        for _ in 0..n {
            out.push(self.pop()?);
        }
        out.reverse();
        Ok(out)
    }

    /// Counts bytes or items that a constructor copies, and fails beyond a limit, because a small pickle
    /// could have memoised arguments copied again and again.
    pub(super) fn charge(&mut self, amount: usize) -> Result<(), Failure> {
        self.copied = self.copied.saturating_add(amount);
        match self.copied > self.copy_limit {
            true => Err(beyond("copied bytes", self.copy_limit)),
            false => Ok(()),
        }
    }

    // Memo.

    fn memory(&mut self, op: u8) -> Result<(), Failure> {
        let index = match op {
            b'p' | b'g' => self.decimal()?.try_into().unwrap_or(usize::MAX),
            b'q' | b'h' => self.input.length::<1>()?,
            b'r' | b'j' => self.input.length::<4>()?,
            // MEMOIZE uses the number of entries as the next index.
            _ => self.memo.len(),
        };
        if matches!(op, b'g' | b'h' | b'j') {
            let Some(value) = self.memo.get(&index) else {
                return Err(Failure::damaged(format!(
                    "the pickle reads memo entry {index}, which was never stored"
                )));
            };
            let value = value.clone();
            return self.push(value);
        }
        let value = self.top()?.clone();
        self.memo.insert(index, value);
        match self.memo.len() > MAX_MEMO {
            true => Err(beyond("memo entries", MAX_MEMO)),
            false => Ok(()),
        }
    }

    // Scalars.

    fn number(&mut self, op: u8) -> Result<(), Failure> {
        let value = match op {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i32::from_le_bytes(self.input.array()?).into()),
            b'K' => Value::Int(self.input.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.input.array()?).into()),
            b'I' => self.text_integer()?,
            b'L' => Value::Int(self.decimal()?),
            0x8a => self.long::<1>()?,
            0x8b => self.long::<4>()?,
            b'F' => self.input.line().map(|_| Value::Other)?,
            _ => self.input.take(8).map(|_| Value::Other)?,
        };
        self.push(value)
    }

    fn decimal(&mut self) -> Result<i128, Failure> {
        let line = self.input.line()?;
        let line = line.strip_suffix(b"L").unwrap_or(line);
        std::str::from_utf8(line)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| Failure::damaged("a line that should hold an integer does not"))
    }

    fn text_integer(&mut self) -> Result<Value<'a>, Failure> {
        match self.input.rest() {
            [b'0', flag @ (b'0' | b'1'), b'\n', ..] => {
                self.input.take(3)?;
                Ok(Value::Bool(*flag == b'1'))
            }
            _ => self.decimal().map(Value::Int),
        }
    }

    /// Reads a two's complement integer whose length is stored in N bytes.
    fn long<const N: usize>(&mut self) -> Result<Value<'a>, Failure> {
        let n = self.input.length::<N>()?;
        let bytes = self.input.take(n)?;
        if n > 16 {
            return Ok(Value::Other);
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[..n].copy_from_slice(bytes);
        Ok(Value::Int(i128::from_le_bytes(wide)))
    }

    fn string(&mut self, op: u8) -> Result<(), Failure> {
        let bytes = match op {
            b'S' | b'V' => self.input.line()?,
            b'U' | 0x8c | b'C' => {
                let n = self.input.length::<1>()?;
                self.input.take(n)?
            }
            b'T' | b'X' | b'B' => {
                let n = self.input.length::<4>()?;
                self.input.take(n)?
            }
            _ => {
                let n = self.input.length::<8>()?;
                self.input.take(n)?
            }
        };
        let value = match (op, std::str::from_utf8(bytes)) {
            (b'B' | b'C' | 0x8e | 0x96, _) => Value::Bytes(bytes),
            (b'S', Ok(text)) => Value::Str(text.trim_matches(['\'', '"'])),
            (_, Ok(text)) => Value::Str(text),
            // Python 2 wrote bytes as strings.
            (b'S' | b'T' | b'U', Err(_)) => Value::Bytes(bytes),
            _ => return Err(Failure::damaged("a string in the pickle is not valid UTF-8")),
        };
        self.push(value)
    }

    // Containers.

    fn container(&mut self, op: u8) -> Result<(), Failure> {
        match op {
            b']' => self.push_object(Obj::List(Vec::new())),
            b')' => self.push_object(Obj::Tuple(Vec::new())),
            b'}' => self.push_object(Obj::Dict(Vec::new())),
            0x8f => self.push_object(Obj::Inert),
            0x91 => {
                self.pop_mark()?;
                self.push_object(Obj::Inert)
            }
            b'l' => self.pop_mark().and_then(|items| self.push_object(Obj::List(items))),
            b't' => self.pop_mark().and_then(|items| self.push_object(Obj::Tuple(items))),
            b'd' => {
                let items = self.pop_mark()?;
                self.push_object(Obj::Dict(pairs(items)?))
            }
            0x85..=0x87 => {
                let items = self.pop_n(usize::from(op - 0x84))?;
                self.push_object(Obj::Tuple(items))
            }
            b'a' => {
                let items = self.pop_n(1)?;
                self.extend(items)
            }
            b's' => {
                let items = self.pop_n(2)?;
                self.extend(items)
            }
            _ => {
                let items = self.pop_mark()?;
                self.extend(items)
            }
        }
    }

    /// Adds items to the container on top of the stack; items for an inert object are dropped.
    fn extend(&mut self, items: Vec<Value<'a>>) -> Result<(), Failure> {
        let Value::Ref(index) = *self.top()? else {
            return Err(Failure::damaged("the pickle adds to something that is not a container"));
        };
        match &mut self.objects[index] {
            Obj::List(list) => list.extend(items),
            Obj::Dict(dict) => dict.extend(pairs(items)?),
            Obj::Inert => {}
            _ => {
                return Err(Failure::damaged(
                    "the pickle adds to something that is not a container",
                ));
            }
        }
        Ok(())
    }

    // Constructors.

    fn construct(&mut self, op: u8) -> Result<(), Failure> {
        match op {
            b'c' => {
                let class = self.class_by_line()?;
                self.push(Value::Class(class))
            }
            0x93 => {
                let names = self.pop_n(2)?;
                let (Some(module), Some(name)) = (names[0].text(), names[1].text()) else {
                    return Err(Failure::damaged("the name of a constructor is not a string"));
                };
                let class = self.resolve(module, name)?;
                self.push(Value::Class(class))
            }
            b'i' => {
                let class = self.class_by_line()?;
                let args = self.pop_mark()?;
                self.call(Value::Class(class), args)
            }
            b'o' => {
                let mut args = self.pop_mark()?;
                if args.is_empty() {
                    return Err(Failure::damaged(
                        "the pickle constructs an object without a class",
                    ));
                }
                let class = args.remove(0);
                self.call(class, args)
            }
            b'R' | 0x81 => {
                let args = self.pop()?;
                self.reduce(args)
            }
            0x92 => {
                let _keywords = self.pop()?;
                let args = self.pop()?;
                self.reduce(args)
            }
            b'Q' => self.persistent(),
            _ => self.build(),
        }
    }

    fn class_by_line(&mut self) -> Result<Class, Failure> {
        let module = String::from_utf8_lossy(self.input.line()?);
        let name = String::from_utf8_lossy(self.input.line()?);
        self.resolve(&module, &name)
    }

    fn resolve(&self, module: &str, name: &str) -> Result<Class, Failure> {
        resolve(module, name).map_err(|refusal| {
            let is_module = self.bytes.windows(MODULES.len()).any(|window| window == MODULES);
            if is_module { whole_module(module, name) } else { refusal }
        })
    }

    fn reduce(&mut self, args: Value<'a>) -> Result<(), Failure> {
        let class = self.pop()?;
        let args = self.sequence(&args, "arguments")?;
        self.call(class, args)
    }

    /// Copies the items of a tuple or list; long ones count towards the limit of copies.
    pub(super) fn sequence(
        &mut self,
        value: &Value<'a>,
        what: &str,
    ) -> Result<Vec<Value<'a>>, Failure> {
        let index = match value {
            Value::Ref(index) => *index,
            _ => usize::MAX,
        };
        let (Some(Obj::Tuple(items)) | Some(Obj::List(items))) = self.objects.get(index) else {
            return Err(Failure::damaged(format!(
                "the {} of a constructor are not a tuple",
                quoted(what)
            )));
        };
        let items = items.clone();
        self.charge(items.len().saturating_sub(16))?;
        Ok(items)
    }
}

fn pairs<'a>(items: Vec<Value<'a>>) -> Result<Vec<(Value<'a>, Value<'a>)>, Failure> {
    if !items.len().is_multiple_of(2) {
        return Err(Failure::damaged("a dictionary in the pickle has a key without a value"));
    }
    let mut items = items.into_iter();
    let mut out = Vec::with_capacity(items.len() / 2);
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        out.push((key, value));
    }
    Ok(out)
}
