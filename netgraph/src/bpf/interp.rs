//! Validating and running programs, as sys/net/bpf_filter.c does.

use super::code::*;
use super::{Insn, MAX_INSNS, MEM_WORDS, Program};
use thiserror::Error;

/// Why the kernel would refuse a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// No instruction, or more than [`MAX_INSNS`].
    #[error("{0} instructions, not 1 to 512")]
    Length(usize),
    /// A code that is none.
    #[error("instruction {0} has the unknown code {1:#x}")]
    Code(usize, u16),
    /// A jump out of the program.
    #[error("instruction {0} jumps past the end")]
    Jump(usize),
    /// A scratch word that does not exist.
    #[error("instruction {0} uses scratch word {1}")]
    Memory(usize, u32),
    /// Division by a constant zero.
    #[error("instruction {0} divides by zero")]
    Division(usize),
    /// The last instruction does not return.
    #[error("the last instruction does not return")]
    NoReturn,
}

impl Program {
    /// What `bpf_validate` checks: known codes, jumps that stay inside, scratch words that exist, no constant zero divisor, a
    /// return at the end. Jumps only go forward, so a valid program always ends.
    ///
    /// In one point it is stricter: the kernel passes an empty program ("accept all"), and ng_bpf then hands the place where its
    /// first instruction would be to an interpreter that runs it.
    pub fn validate(&self) -> Result<(), Invalid> {
        let insns = &self.0;
        if insns.is_empty() || insns.len() > MAX_INSNS {
            return Err(Invalid::Length(insns.len()));
        }
        for (at, insn) in insns.iter().enumerate() {
            check(insn, at, insns.len())?;
        }
        match insns.last() {
            Some(last) if last.code & 0x07 == RET => Ok(()),
            _ => Err(Invalid::NoReturn),
        }
    }

    /// Runs the program over a frame: how many of its bytes to keep, 0 for none. What bpf_filter does at a load past the end or
    /// at a division by zero, it returns 0; so does a program that was never validated, where it goes wrong.
    #[inline]
    pub fn run(&self, frame: &[u8]) -> u32 {
        execute(&self.0, frame).unwrap_or(0)
    }
}

fn check(insn: &Insn, at: usize, len: usize) -> Result<(), Invalid> {
    let unknown = Err(Invalid::Code(at, insn.code));
    let scratch = || if insn.k as usize >= MEM_WORDS { Err(Invalid::Memory(at, insn.k)) } else { Ok(()) };
    // Where it would go, counted from the next instruction.
    let inside = |skip: u32| {
        if (skip as usize) < len - at - 1 { Ok(()) } else { Err(Invalid::Jump(at)) }
    };
    const LD_MEM: u16 = LD | MEM;
    const LDX_MEM: u16 = LDX | MEM;
    match insn.code {
        c if c & 0xff != c => unknown,
        LD_MEM | LDX_MEM => scratch(),
        c if matches!(c & 0x07, ST | STX) => {
            if c == c & 0x07 {
                scratch()
            } else {
                unknown
            }
        }
        c if c & 0x07 == LD => {
            let known = match c & 0xe0 {
                ABS | IND => c & 0x18 != 0x18,
                IMM | LEN => c & 0x18 == W,
                _ => false,
            };
            if known { Ok(()) } else { unknown }
        }
        c if c & 0x07 == LDX => {
            let known = matches!(c & !0x07, IMM | LEN) || c == LDX | MSH | B;
            if known { Ok(()) } else { unknown }
        }
        c if c & 0x07 == ALU => match c & 0xf0 {
            DIV | MOD if c & X == 0 && insn.k == 0 => Err(Invalid::Division(at)),
            NEG if c & X != 0 => unknown,
            ADD | SUB | MUL | DIV | OR | AND | LSH | RSH | NEG | MOD | XOR => Ok(()),
            _ => unknown,
        },
        c if c & 0x07 == JMP => match c & 0xf0 {
            JA if c & X == 0 => inside(insn.k),
            JEQ | JGT | JGE | JSET => inside(insn.jt.into()).and(inside(insn.jf.into())),
            _ => unknown,
        },
        c if c & 0x07 == RET => {
            if matches!(c & !0x07, K | A) {
                Ok(())
            } else {
                unknown
            }
        }
        c => {
            if matches!(c & 0xf8, TAX | TXA) {
                Ok(())
            } else {
                unknown
            }
        }
    }
}

/// `None` where bpf_filter gives up and returns 0.
#[inline]
fn execute(insns: &[Insn], frame: &[u8]) -> Option<u32> {
    let (mut a, mut x) = (0u32, 0u32);
    let mut mem = [0u32; MEM_WORDS];
    let mut pc = 0usize;
    loop {
        let insn = insns.get(pc)?;
        let k = insn.k;
        pc += 1;
        match insn.code & 0x07 {
            LD => {
                a = match insn.code & 0xe0 {
                    IMM => k,
                    ABS => load(frame, insn.code, k as usize)?,
                    IND => load(frame, insn.code, usize::try_from(u64::from(x) + u64::from(k)).ok()?)?,
                    MEM => *mem.get(k as usize)?,
                    LEN => frame.len() as u32,
                    _ => return None,
                }
            }
            LDX => {
                x = match insn.code & 0xe0 {
                    IMM => k,
                    MEM => *mem.get(k as usize)?,
                    LEN => frame.len() as u32,
                    MSH => u32::from(frame.get(k as usize)? & 0x0f) << 2,
                    _ => return None,
                }
            }
            ST => *mem.get_mut(k as usize)? = a,
            STX => *mem.get_mut(k as usize)? = x,
            ALU => {
                let operand = if insn.code & X != 0 { x } else { k };
                a = match insn.code & 0xf0 {
                    ADD => a.wrapping_add(operand),
                    SUB => a.wrapping_sub(operand),
                    MUL => a.wrapping_mul(operand),
                    DIV => a.checked_div(operand)?,
                    MOD => a.checked_rem(operand)?,
                    OR => a | operand,
                    AND => a & operand,
                    XOR => a ^ operand,
                    // C leaves shifts by 32 and more open; the machines FreeBSD runs on take them modulo 32.
                    LSH => a.wrapping_shl(operand),
                    RSH => a.wrapping_shr(operand),
                    NEG => a.wrapping_neg(),
                    _ => return None,
                }
            }
            JMP => {
                let operand = if insn.code & X != 0 { x } else { k };
                let taken = match insn.code & 0xf0 {
                    JA => {
                        pc = pc.checked_add(k as usize)?;
                        continue;
                    }
                    JEQ => a == operand,
                    JGT => a > operand,
                    JGE => a >= operand,
                    JSET => a & operand != 0,
                    _ => return None,
                };
                pc += usize::from(if taken { insn.jt } else { insn.jf });
            }
            RET => return Some(if insn.code & A != 0 { a } else { k }),
            _ => match insn.code & 0xf8 {
                TXA => a = x,
                _ => x = a,
            },
        }
    }
}

/// A word, halfword or byte of the frame, big-endian; `None` past its end.
#[inline]
fn load(frame: &[u8], code: u16, at: usize) -> Option<u32> {
    let bytes = frame.get(at..)?;
    match code & 0x18 {
        H => bytes.first_chunk().map(|b| u32::from(u16::from_be_bytes(*b))),
        B => bytes.first().map(|b| u32::from(*b)),
        _ => bytes.first_chunk().map(|b| u32::from_be_bytes(*b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
        Insn { code, jt, jf, k }
    }
    const RET_0: Insn = Insn { code: RET, jt: 0, jf: 0, k: 0 };

    fn run(insns: &[Insn], frame: &[u8]) -> u32 {
        let program = Program(insns.to_vec());
        program.validate().unwrap();
        program.run(frame)
    }

    #[test]
    fn loads_are_big_endian_and_end_with_the_frame() {
        let frame = [0x45, 1, 2, 3, 4, 5];
        let ret_a = insn(RET | A, 0, 0, 0);
        assert_eq!(run(&[insn(LD | W | ABS, 0, 0, 1), ret_a], &frame), 0x0102_0304);
        assert_eq!(run(&[insn(LD | H | ABS, 0, 0, 4), ret_a], &frame), 0x0405);
        assert_eq!(run(&[insn(LD | H | ABS, 0, 0, 5), ret_a], &frame), 0);
        assert_eq!(run(&[insn(LD | B | ABS, 0, 0, 5), ret_a], &frame), 5);
        assert_eq!(run(&[insn(LD | W | ABS, 0, 0, u32::MAX), ret_a], &frame), 0);
        assert_eq!(run(&[insn(LD | W | LEN, 0, 0, 0), ret_a], &frame), 6);
        let msh = insn(LDX | MSH | B, 0, 0, 0);
        assert_eq!(run(&[msh, insn(MISC | TXA, 0, 0, 0), ret_a], &frame), 20);
        assert_eq!(run(&[insn(LDX | IMM, 0, 0, 2), insn(LD | B | IND, 0, 0, 1), ret_a], &frame), 3);
        assert_eq!(run(&[insn(LDX | IMM, 0, 0, u32::MAX), insn(LD | B | IND, 0, 0, 1), ret_a], &frame), 0);
    }

    #[test]
    fn arithmetic_and_memory() {
        let ret_a = insn(RET | A, 0, 0, 0);
        let lda = |k| insn(LD | IMM, 0, 0, k);
        assert_eq!(run(&[lda(7), insn(ALU | DIV | K, 0, 0, 2), ret_a], &[]), 3);
        assert_eq!(run(&[lda(7), insn(ALU | MOD | K, 0, 0, 4), ret_a], &[]), 3);
        assert_eq!(run(&[lda(7), insn(ALU | DIV | X, 0, 0, 0), ret_a], &[]), 0, "X is zero");
        assert_eq!(run(&[lda(1), insn(ALU | SUB | K, 0, 0, 2), ret_a], &[]), u32::MAX);
        assert_eq!(run(&[lda(9), insn(ST, 0, 0, 15), lda(0), insn(LD | MEM, 0, 0, 15), ret_a], &[]), 9);
        assert_eq!(run(&[lda(1), insn(ALU | NEG, 0, 0, 0), ret_a], &[]), u32::MAX);
    }

    #[test]
    fn jumps() {
        let program = |code, k| {
            [insn(LD | IMM, 0, 0, 6), insn(JMP | code, 0, 1, k), insn(RET, 0, 0, 1), insn(RET, 0, 0, 2)]
        };
        assert_eq!(run(&program(JEQ, 6), &[]), 1);
        assert_eq!(run(&program(JEQ, 5), &[]), 2);
        assert_eq!(run(&program(JGT, 6), &[]), 2);
        assert_eq!(run(&program(JGE, 6), &[]), 1);
        assert_eq!(run(&program(JSET, 4), &[]), 1);
        assert_eq!(run(&program(JSET, 1), &[]), 2);
        assert_eq!(run(&[insn(JMP | JA, 0, 0, 1), insn(RET, 0, 0, 1), insn(RET, 0, 0, 2)], &[]), 2);
    }

    #[test]
    fn what_the_kernel_refuses() {
        let bad = |insns: &[Insn]| Program(insns.to_vec()).validate().unwrap_err();
        assert_eq!(bad(&[]), Invalid::Length(0));
        assert_eq!(bad(&vec![RET_0; MAX_INSNS + 1]), Invalid::Length(MAX_INSNS + 1));
        assert!(Program(vec![RET_0; MAX_INSNS]).validate().is_ok());
        assert_eq!(bad(&[insn(LD | IMM, 0, 0, 0)]), Invalid::NoReturn);
        assert_eq!(bad(&[insn(JMP | JEQ, 0, 1, 0), RET_0]), Invalid::Jump(0));
        assert_eq!(bad(&[insn(JMP | JA, 0, 0, u32::MAX), RET_0]), Invalid::Jump(0));
        assert_eq!(bad(&[insn(JMP | JA, 0, 0, 1), RET_0]), Invalid::Jump(0));
        assert_eq!(bad(&[insn(ST, 0, 0, 16), RET_0]), Invalid::Memory(0, 16));
        assert_eq!(bad(&[insn(LDX | MEM, 0, 0, 16), RET_0]), Invalid::Memory(0, 16));
        assert_eq!(bad(&[insn(ALU | DIV | K, 0, 0, 0), RET_0]), Invalid::Division(0));
        assert_eq!(bad(&[insn(0x1000, 0, 0, 0), RET_0]), Invalid::Code(0, 0x1000));
        assert_eq!(bad(&[insn(LD | 0x18 | ABS, 0, 0, 0), RET_0]), Invalid::Code(0, 0x38));
        assert_eq!(bad(&[insn(ALU | 0xb0, 0, 0, 0), RET_0]), Invalid::Code(0, 0xb4));
    }

    proptest! {
        /// Whatever the program and the frame: no panic, and an end.
        #[test]
        fn anything_runs_to_an_end(
            words in proptest::collection::vec((any::<u16>(), any::<u8>(), any::<u8>(), any::<u32>()), 0..40),
            frame in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let program = Program(words.into_iter().map(|(c, t, f, k)| insn(c & 0xff, t % 8, f % 8, k % 64)).collect());
            let _ = program.validate();
            let _ = program.run(&frame);
        }

        /// A valid program ends at one of its returns, or at a bad load or a division by zero, which are 0; it never runs off.
        #[test]
        fn a_valid_program_ends_at_a_return(
            words in proptest::collection::vec((0u16..0x100, 0u8..4, 0u8..4, 0u32..20), 1..20),
            frame in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut insns: Vec<_> = words.into_iter().map(|(c, t, f, k)| insn(c, t, f, k)).collect();
            // Only returns of constants, each of which can be told from the rest.
            for (at, i) in insns.iter_mut().enumerate().filter(|(_, i)| i.code & 7 == RET) {
                *i = insn(RET, 0, 0, 1000 + at as u32);
            }
            insns.push(insn(RET, 0, 0, 77));
            let program = Program(insns);
            if program.validate().is_ok() {
                let result = program.run(&frame);
                prop_assert!(result == 0 || result == 77 || (1000..1020).contains(&result), "{}", result);
            }
        }
    }
}
