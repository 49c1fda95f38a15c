package anomaly

import "math"

const (
	// reach is how many rows back likes are looked for.
	reach = 4096
	// textured is how many rows a texture is of.
	textured = 32
	longest  = 16 // rows of the longest shape
)

// past is the last rows of a series. Both slices are windows that move through an
// array of twice their length.
type past struct {
	values   []float64
	textures [][2]float64 // mean and deviation of the rows that end there
}

// held is how many rows are kept.
const held = reach + longest

func newPast() *past {
	return &past{values: make([]float64, 0, 2*held), textures: make([][2]float64, 0, 2*held)}
}

// add takes in a row.
func (p *past) add(v float64) {
	if len(p.values) == cap(p.values) {
		p.values = append(p.values[:0], p.values[len(p.values)-held:]...)
		p.textures = append(p.textures[:0], p.textures[len(p.textures)-held:]...)
	}
	p.values = append(p.values, v)
	p.textures = append(p.textures, p.describe())
}

// describe is the texture of the newest rows.
func (p *past) describe() [2]float64 {
	x := p.values[max(len(p.values)-textured, 0):]
	mean, square := 0.0, 0.0
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		square += (v - mean) * (v - mean) / float64(len(x))
	}
	return [2]float64{mean, math.Sqrt(square)}
}

// two are the two smallest of some numbers.
type two struct{ first, second float64 }

func (t *two) see(d float64) {
	if d < t.first {
		t.first, t.second = d, t.first
	} else if d < t.second {
		t.second = d
	}
}

func none() two { return two{math.Inf(1), math.Inf(1)} }

// nearest is the distance of the last m values, as a shape, to the second nearest
// before them; zero when there are none.
func (p *past) nearest(m int) float64 {
	x := p.values
	end := len(x) - m // where the newest shape begins
	if end < m+1 {
		return 0
	}
	newest, shape := x[end], x[end+1:]
	likes := none()
	for j := max(end-reach, 0); j+m <= end; j++ {
		e := newest - x[j]
		sum := e * e
		for k := 0; k < len(shape) && sum < likes.second; k++ {
			e := shape[k] - x[j+1+k]
			sum += e * e
		}
		if sum < likes.second {
			likes.see(sum)
		}
	}
	return math.Sqrt(likes.second / float64(m))
}

// texture is the distance of the newest texture to the second nearest that shares
// no row with it; zero when there are none.
func (p *past) texture() float64 {
	now := len(p.textures) - 1
	from := max(now-reach, 0)
	if from == 0 {
		from = textured - 1 // earlier ones are of fewer rows
	}
	end := now - textured
	if end < from+1 {
		return 0
	}
	mine := p.textures[now]
	likes := none()
	for _, o := range p.textures[from : end+1] {
		a, b := mine[0]-o[0], mine[1]-o[1]
		if sum := a*a + b*b; sum < likes.second {
			likes.see(sum)
		}
	}
	return math.Sqrt(likes.second)
}
