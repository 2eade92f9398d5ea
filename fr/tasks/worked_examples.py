"""Worked examples of our own for data sets without training questions."""

_PICK = "Which of these is right? Answer with its letter."

# (question, solution, answer) of the examples of each data set
WORKED: dict[str, tuple[tuple[str, str, str], ...]] = {
    "gsm8k": (
        (
            "A baker makes 4 trays of 12 rolls and sells 30 rolls. How many rolls are "
            "left?",
            "4 trays of 12 rolls are 4 * 12 = 48 rolls. After selling 30 there are 48 "
            "- 30 = 18 left.",
            "18",
        ),
        (
            "Lia reads 15 pages a day. Her book has 180 pages, and she has read 60. "
            "How many more days will it take?",
            "There are 180 - 60 = 120 pages left. At 15 pages a day that takes 120 / "
            "15 = 8 days.",
            "8",
        ),
        (
            "A shirt costs $40 and is sold at 25% off. What do two such shirts cost, "
            "in dollars?",
            "A quarter of 40 is 10, so one shirt costs 40 - 10 = 30 dollars. Two cost "
            "2 * 30 = 60 dollars.",
            "60",
        ),
        (
            "Omar has twice as many stamps as Nina, who has 3 fewer than Paul. Paul "
            "has 20. How many has Omar?",
            "Nina has 20 - 3 = 17 stamps. Omar has 2 * 17 = 34.",
            "34",
        ),
        (
            "A tank holds 90 litres and is one third full. A pump adds 12 litres a "
            "minute. After how many minutes is it full?",
            "It holds 90 / 3 = 30 litres, so 90 - 30 = 60 are missing. That takes 60 "
            "/ 12 = 5 minutes.",
            "5",
        ),
    ),
    "math500": (
        (
            "Solve $3x - 7 = 11$ for $x$.",
            "Adding 7 to both sides gives $3x = 18$, so $x = 6$.",
            "6",
        ),
        (
            "What is the probability that a fair die shows a number greater than $4$?",
            "Two of the six sides, 5 and 6, are greater than 4. The probability is "
            r"$\frac{2}{6} = \frac{1}{3}$.",
            r"\frac{1}{3}",
        ),
        (
            r"For which real $x$ is $\sqrt{x - 2}$ defined? Give the answer in "
            "interval notation.",
            r"It must hold that $x - 2 \ge 0$, that is $x \ge 2$.",
            r"[2,\infty)",
        ),
        (
            "Find the distance between $(1, 2)$ and $(3, 6)$.",
            r"The differences are 2 and 4, so the distance is $\sqrt{2^2 + 4^2} = "
            r"\sqrt{20} = 2\sqrt{5}$.",
            r"2\sqrt{5}",
        ),
        (
            "Expand $(x + 3)(x - 5)$.",
            "The products are $x^2 - 5x + 3x - 15$, which is $x^2 - 2x - 15$.",
            "x^2-2x-15",
        ),
    ),
    "cruxeval": (
        (
            "What does f('ab', 2) return? Give the value as a Python literal.\n"
            "\n"
            "def f(s, n):\n"
            "    return s[::-1] * n",
            "s[::-1] is 'ba', and twice that is 'baba'.",
            "'baba'",
        ),
        (
            "What does f([3, 1, 2]) return? Give the value as a Python literal.\n"
            "\n"
            "def f(x):\n"
            "    x.sort()\n"
            "    return x[:2]",
            "Sorted, the list is [1, 2, 3]; its first two items are [1, 2].",
            "[1, 2]",
        ),
        (
            "What does f({'a': 1}, 'b') return? Give the value as a Python literal.\n"
            "\n"
            "def f(d, k):\n"
            "    return d.get(k, 0) + len(d)",
            "'b' is no key of d, so d.get gives 0; len(d) is 1, and the sum is 1.",
            "1",
        ),
    ),
    "gpqa": (
        (
            "Which gas makes up most of the air of the Earth?\n"
            f"\n{_PICK}\n"
            "A) oxygen\n"
            "B) argon\n"
            "C) nitrogen\n"
            "D) carbon dioxide",
            "Air is about 78 % nitrogen and 21 % oxygen.",
            "C",
        ),
        (
            "An object falls freely from rest. How far has it fallen after 2 s, with "
            "g = 10 m/s²?\n"
            f"\n{_PICK}\n"
            "A) 20 m\n"
            "B) 10 m\n"
            "C) 40 m\n"
            "D) 5 m",
            "The distance is g t² / 2 = 10 * 4 / 2 = 20 m.",
            "A",
        ),
        (
            "Which of these bases is found in RNA and not in DNA?\n"
            f"\n{_PICK}\n"
            "A) adenine\n"
            "B) guanine\n"
            "C) cytosine\n"
            "D) uracil",
            "In RNA uracil stands where DNA has thymine.",
            "D",
        ),
    ),
}
