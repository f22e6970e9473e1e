#lang racket/base
;; fasta N: random DNA sequences.
;; Prints three sequences in FASTA format, 60 letters a line: 2N letters of a repeated piece, then
;; 3N and 5N letters drawn with given frequencies by a small linear congruential generator. The
;; plain implementation: a letter is found by walking the cumulated frequencies, and each line is
;; written by itself. Much output in small pieces.

(define columns 60)

(define alu
  (string-append
   "GGCCGGGCGCGGTGGCTCACGCCTGTAATCCCAGCACTTTGG"
   "GAGGCCGAGGCGGGCGGATCACCTGAGGTCAGGAGTTCGAGA"
   "CCAGCCTGGCCAACATGGTGAAACCCCGTCTCTACTAAAAAT"
   "ACAAAAATTAGCCGGGCGTGGTGGCGCGCGCCTGTAATCCCA"
   "GCTACTCGGGAGGCTGAGGCAGGAGAATCGCTTGAACCCGGG"
   "AGGCGGAGGTTGCAGTGAGCCGAGATCGCGCCACTGCACTCC"
   "AGCCTGGGCGACAGAGCGAGACTCCGTCTCAAAAA"))

(define iub
  '((#\a . 0.27) (#\c . 0.12) (#\g . 0.12) (#\t . 0.27)
    (#\B . 0.02) (#\D . 0.02) (#\H . 0.02) (#\K . 0.02) (#\M . 0.02) (#\N . 0.02)
    (#\R . 0.02) (#\S . 0.02) (#\V . 0.02) (#\W . 0.02) (#\Y . 0.02)))

(define homo-sapiens
  '((#\a . 0.3029549426680) (#\c . 0.1979883004921)
    (#\g . 0.1975473066391) (#\t . 0.3015094502008)))

;; The generator that the benchmark prescribes; its state runs on from one sequence to the next.
(define modulus 139968)
(define state 42)
(define (random-below-one!)
  (set! state (modulo (+ (* state 3877) 29573) modulus))
  (/ (exact->inexact state) modulus))

;; The list of (letter . frequency) with each frequency replaced by the sum up to there.
(define (cumulate table)
  (let loop ([rest table] [sum 0.0])
    (if (null? rest)
        '()
        (let ([next (+ sum (cdar rest))])
          (cons (cons (caar rest) next) (loop (cdr rest) next))))))

;; The last letter takes what rounding leaves over.
(define (pick cumulated r)
  (if (or (null? (cdr cumulated)) (< r (cdar cumulated)))
      (caar cumulated)
      (pick (cdr cumulated) r)))

;; Calls next-letter `count` times and prints the letters in lines.
(define (print-sequence id description count next-letter)
  (printf ">~a ~a\n" id description)
  (define line (make-string columns))
  (let loop ([left count])
    (when (> left 0)
      (define width (min left columns))
      (for ([i (in-range width)]) (string-set! line i (next-letter)))
      (write-string line (current-output-port) 0 width)
      (newline)
      (loop (- left width)))))

(define (repeating text)
  (define position 0)
  (define size (string-length text))
  (lambda ()
    (define letter (string-ref text position))
    (set! position (if (= (+ position 1) size) 0 (+ position 1)))
    letter))

(define (drawing table)
  (define cumulated (cumulate table))
  (lambda () (pick cumulated (random-below-one!))))

(module+ main
  (define n (string->number (vector-ref (current-command-line-arguments) 0)))
  (print-sequence "ONE" "Homo sapiens alu" (* 2 n) (repeating alu))
  (print-sequence "TWO" "IUB ambiguity codes" (* 3 n) (drawing iub))
  (print-sequence "THREE" "Homo sapiens frequency" (* 5 n) (drawing homo-sapiens)))
