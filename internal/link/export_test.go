package link

// Held returns how many bytes the reader has allocated.
func (r *Reader) Held() int { return cap(r.buf) }

// Held returns how many bytes the buffer for waiting frames takes.
func (w *Writer) Held() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return cap(w.buf)
}

// Done is closed when the writer's goroutine has ended.
func (w *Writer) Done() <-chan struct{} { return w.done }

// CodeNames returns every code that has a name.
func CodeNames() map[Code]string { return codeNames }
