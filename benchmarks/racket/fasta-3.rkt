#lang racket/base
;; fasta-3 N: random DNA sequences, built differently.
;; Prints what fasta prints. Here the generator's whole cycle is turned into a table from state to
;; letter before a sequence starts, so drawing a letter is one look-up, and letters go as bytes into
;; one large buffer that is written when it is full. Little computation a letter, large writes.

(require (only-in racket/flonum ->fl)
         racket/unsafe/ops)

(define columns 60)
(define line-bytes (+ columns 1))
(define newline-byte 10)
;; A whole number of lines, about 64 KiB.
(define buffer-bytes (* line-bytes 1024))

(define-values (multiplier increment modulus) (values 3877 29573 139968))
(define seed 42)

(define alu
  (bytes-append
   #"GGCCGGGCGCGGTGGCTCACGCCTGTAATCCCAGCACTTTGGGAGGCCGAGGCGGGCGGATCACCTGAGG"
   #"TCAGGAGTTCGAGACCAGCCTGGCCAACATGGTGAAACCCCGTCTCTACTAAAAATACAAAAATTAGCCGGG"
   #"CGTGGTGGCGCGCGCCTGTAATCCCAGCTACTCGGGAGGCTGAGGCAGGAGAATCGCTTGAACCCGGGAGGC"
   #"GGAGGTTGCAGTGAGCCGAGATCGCGCCACTGCACTCCAGCCTGGGCGACAGAGCGAGACTCCGTCTCAAAAA"))

(define iub-letters #"acgtBDHKMNRSVWY")
(define iub-weights '(0.27 0.12 0.12 0.27 0.02 0.02 0.02 0.02 0.02 0.02 0.02 0.02 0.02 0.02 0.02))
(define homo-sapiens-letters #"acgt")
(define homo-sapiens-weights '(0.3029549426680 0.1979883004921 0.1975473066391 0.3015094502008))

;; A byte string of `modulus` letters: the letter that each state of the generator stands for.
;; Letter k takes the states s with s/modulus below the sum of the first k + 1 weights that no
;; earlier letter has taken; the last one takes the rest.
(define (letter-table letters weights)
  (define table (make-bytes modulus (bytes-ref letters (- (bytes-length letters) 1))))
  (for/fold ([start 0] [sum 0.0] #:result table)
            ([letter (in-bytes letters)] [weight (in-list weights)])
    (define limit (+ sum weight))
    (define end
      (let find ([s start])
        (if (and (< s modulus) (< (/ (->fl s) (->fl modulus)) limit))
            (begin (bytes-set! table s letter) (find (+ s 1)))
            s)))
    (values end limit)))

(define buffer (make-bytes buffer-bytes newline-byte))

(define (write-heading text)
  (write-bytes text (current-output-port))
  (void))

;; Writes `count` letters. (fill! offset width x) puts `width` letters into the buffer at `offset`
;; and gives the source's next position for its present position x; the last such position is the
;; result. The newlines stand in the buffer already, except after a short last line.
(define (write-letters count x fill!)
  (define out (current-output-port))
  (let line ([left count] [offset 0] [x x])
    (cond
      [(unsafe-fx= left 0)
       (write-bytes buffer out 0 offset)
       x]
      [(unsafe-fx= offset buffer-bytes)
       (write-bytes buffer out)
       (line left 0 x)]
      [else
       (define width (unsafe-fxmin left columns))
       (define next (fill! offset width x))
       (define end (unsafe-fx+ offset width))
       (unsafe-bytes-set! buffer end newline-byte)
       (line (unsafe-fx- left width) (unsafe-fx+ end 1) next)])))

;; The position is the index into the repeated text. The text is laid out with its own beginning
;; after its end, so that every line is one copy.
(define (write-repeated count text)
  (define size (bytes-length text))
  (define doubled (bytes-append text (subbytes text 0 columns)))
  (write-letters count 0
                 (lambda (offset width at)
                   (bytes-copy! buffer offset doubled at (unsafe-fx+ at width))
                   (define next (unsafe-fx+ at width))
                   (if (unsafe-fx>= next size) (unsafe-fx- next size) next))))

;; The position is the generator's state.
(define (write-drawn count state letters weights)
  (define table (letter-table letters weights))
  (write-letters count state
                 (lambda (offset width state)
                   (define end (unsafe-fx+ offset width))
                   (let letter ([i offset] [state state])
                     (cond
                       [(unsafe-fx= i end) state]
                       [else
                        (define grown (unsafe-fx+ (unsafe-fx* state multiplier) increment))
                        (define next (unsafe-fxmodulo grown modulus))
                        (unsafe-bytes-set! buffer i (unsafe-bytes-ref table next))
                        (letter (unsafe-fx+ i 1) next)])))))

(module+ main
  (define n (string->number (vector-ref (current-command-line-arguments) 0)))
  (write-heading #">ONE Homo sapiens alu\n")
  (void (write-repeated (* 2 n) alu))
  (write-heading #">TWO IUB ambiguity codes\n")
  (define state (write-drawn (* 3 n) seed iub-letters iub-weights))
  (write-heading #">THREE Homo sapiens frequency\n")
  (void (write-drawn (* 5 n) state homo-sapiens-letters homo-sapiens-weights)))
